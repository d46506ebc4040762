// What went wrong, where everybody looks, and the question before something is gone.

export function tell(message) {
  const notice = document.getElementById("notice");
  notice.textContent = message;
  notice.hidden = !message;
}

export function sure(question) {
  const dialog = document.getElementById("sure-dialog");
  document.getElementById("sure-text").textContent = question;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

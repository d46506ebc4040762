// The API's document as a page. Knows where the document is and that it may want a key; the viewer is Swagger UI.

import { headers, keep, key, refused } from "./api.js";

const $ = (id) => document.getElementById(id);
const SCHEME = "key"; // of the document's securitySchemes

function ask() {
  const dialog = $("key-dialog");
  $("key-input").value = key();
  dialog.returnValue = "";
  dialog.showModal();
}

function given() {
  const answer = $("key-dialog").returnValue;
  if (answer === "save") keep($("key-input").value.trim());
  else if (answer === "forget") keep("");
  else return;
  location.reload();
}

async function show() {
  const answer = await fetch("/openapi.json", { headers: headers() });
  if (!answer.ok) {
    $("told").textContent = refused(answer.status, await answer.text()).told;
    $("told").hidden = false;
    if (answer.status === 401) ask();
    return;
  }
  const spec = await answer.json();
  const viewer = SwaggerUIBundle({
    spec,
    dom_id: "#document",
    deepLinking: true,
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
    validatorUrl: null, // asks a server of theirs otherwise
    onComplete: () => key() && spec.components.securitySchemes && viewer.preauthorizeApiKey(SCHEME, key()),
  });
}

$("key-button").addEventListener("click", ask);
$("key-dialog").addEventListener("close", given);
show();

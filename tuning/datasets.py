"""How each public data set becomes rows: field names to text, with the part its authors gave it.

Knows the files of every data set and nothing else: which row trains and which is scored is `tuning.splits`' decision,
and what a row is used for is the caller's. A row's values are all text; `label` and `intent` are class names.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Part = Literal["train", "test"]
Row = dict[str, str]
Reader = Callable[[Path], Iterator[tuple[Part | None, Row]]]

BLOCK_CHARACTERS = 2_000

# CLINC150's ten domains of fifteen intents (Larson et al., arXiv 1909.02027, table in the appendix).
_CLINC_DOMAINS = {
    "banking": "transfer transactions balance freeze_account pay_bill bill_balance bill_due interest_rate routing"
    " min_payment order_checks pin_change report_fraud account_blocked spending_history",
    "credit cards": "credit_score report_lost_card credit_limit rewards_balance new_card application_status"
    " card_declined international_fees apr redeem_rewards credit_limit_change damaged_card replacement_card_duration"
    " improve_credit_score expiration_date",
    "kitchen": "recipe restaurant_reviews calories nutrition_info restaurant_suggestion ingredients_list"
    " ingredient_substitution cook_time food_last meal_suggestion restaurant_reservation confirm_reservation"
    " how_busy cancel_reservation accept_reservations",
    "home": "shopping_list shopping_list_update next_song play_music update_playlist todo_list todo_list_update"
    " calendar calendar_update what_song order order_status reminder reminder_update smart_home",
    "car": "traffic directions gas gas_type distance current_location mpg oil_change_when oil_change_how"
    " jump_start uber schedule_maintenance last_maintenance tire_pressure tire_change",
    "travel": "book_flight book_hotel car_rental travel_suggestion travel_alert travel_notification carry_on"
    " timezone vaccines translate flight_status international_visa lost_luggage plug_type exchange_rate",
    "utility": "time alarm share_location find_phone weather text spelling make_call timer date calculator"
    " measurement_conversion flip_coin roll_dice definition",
    "work": "direct_deposit pto_request taxes payday w2 pto_balance pto_request_status next_holiday insurance"
    " insurance_change schedule_meeting pto_used meeting_schedule rollover_401k income",
    "small talk": "greeting goodbye tell_joke where_are_you_from how_old_are_you what_is_your_name who_made_you"
    " thank_you what_can_i_ask_you what_are_your_hobbies do_you_have_pets are_you_a_bot meaning_of_life"
    " who_do_you_work_for fun_fact",
    "meta": "change_ai_name change_user_name cancel user_name reset_settings whisper_mode repeat no yes maybe"
    " change_language change_accent change_volume change_speed sync_device",
}
_CLINC_DOMAIN_OF = {intent: domain for domain, intents in _CLINC_DOMAINS.items() for intent in intents.split()}


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _snips(root: Path) -> Iterator[tuple[Part | None, Row]]:
    for part in ("train", "test"):
        for entry in _json_lines(root / "snips" / f"{part}.jsonl"):
            yield part, {"text": entry["text"], "intent": entry["intent"]}


def _clinc150(root: Path) -> Iterator[tuple[Part | None, Row]]:
    parts = json.loads((root / "clinc150" / "data_full.json").read_text(encoding="utf-8"))
    of: dict[str, Part] = {"train": "train", "val": "train", "test": "test"}
    for name, part in of.items():
        for text, intent in parts[name]:
            yield part, {"text": text, "intent": intent, "domain": _CLINC_DOMAIN_OF[intent]}


def _banking77(root: Path) -> Iterator[tuple[Part | None, Row]]:
    for part in ("train", "test"):
        with (root / "banking77" / f"{part}.csv").open(encoding="utf-8", newline="") as lines:
            for entry in csv.DictReader(lines):
                yield part, {"text": entry["text"], "intent": entry["category"]}


def _sentences(**files: str) -> Reader:
    def read(root: Path) -> Iterator[tuple[Part | None, Row]]:
        for label, file in files.items():
            for line in (root / "rt_polarity_subj" / file).read_text(encoding="utf-8").splitlines():
                if text := line.strip():
                    yield None, {"text": text, "label": label}

    return read


def _e2e_nlg(root: Path) -> Iterator[tuple[Part | None, Row]]:
    for part in ("train", "test"):
        for entry in _json_lines(root / "e2e_nlg" / f"{part}.jsonl"):
            yield part, {"mr": entry["mr"], "ref": entry["ref"]}


def _dart(root: Path) -> Iterator[tuple[Part | None, Row]]:
    """The official train part is too large to be at hand, so dev trains."""
    for entry in json.loads((root / "dart_v1.1.1" / "dev.json").read_text(encoding="utf-8")):
        for annotation in entry["annotations"]:
            yield "train", {"triples": _triples(entry["tripleset"]), "ref": annotation["text"]}
    for entry in _json_lines(root / "dart_v1.1.1" / "test.jsonl"):
        for ref in entry["refs"]:
            yield "test", {"triples": _triples(entry["tripleset"]), "ref": ref}


def _triples(triples: list[list[str]]) -> str:
    return " | ".join(" : ".join(triple) for triple in triples)


def _sgd(root: Path) -> Iterator[tuple[Part | None, Row]]:
    """The official test part is not at hand, so dev scores."""
    of: dict[str, Part] = {"train": "train", "dev": "test"}
    for name, part in of.items():
        for entry in _json_lines(root / "sgd" / f"nlg_{name}.jsonl"):
            yield part, {"acts": entry["acts"], "text": entry["text"]}


def _sgd_dialogues(root: Path) -> Iterator[tuple[Part | None, Row]]:
    speaker = {"U": "User", "S": "System"}
    of: dict[str, Part] = {"train": "train", "dev": "test"}
    for name, part in of.items():
        for entry in _json_lines(root / "sgd" / f"dialogues_{name}.jsonl"):
            yield part, {"text": "\n".join(f"{speaker[who]}: {text}" for who, text in entry["turns"])}


def _scitldr(root: Path) -> Iterator[tuple[Part | None, Row]]:
    of: dict[str, Part] = {"train": "train", "dev": "train", "test": "test"}
    for name, part in of.items():
        for entry in _json_lines(root / "scitldr" / f"{name}.jsonl"):
            for summary in entry["target"]:
                yield part, {"doc": " ".join(entry["source"]), "summary": summary}


def _gsm8k(root: Path) -> Iterator[tuple[Part | None, Row]]:
    for part in ("train", "test"):
        for entry in _json_lines(root / "gsm8k" / f"{part}.jsonl"):
            yield part, {"question": entry["question"], "answer": entry["answer"]}


def _babi(root: Path) -> Iterator[tuple[Part | None, Row]]:
    """One row a question: the story up to it, the question and the answer (tasks 1-20, 1,000 questions each)."""
    for part in ("train", "test"):
        for file in sorted((root / "babi" / "en").glob(f"*_{part}.txt")):
            story: list[str] = []
            for line in file.read_text(encoding="utf-8").splitlines():
                number, text = line.split(" ", 1)
                story = [] if number == "1" else story
                if "\t" in text:
                    question, answer, _ = text.split("\t")
                    yield part, {"story": " ".join(story), "question": question.strip(), "answer": answer}
                else:
                    story.append(text.strip())


def _blocks(text: str) -> Iterator[str]:
    """Runs of whole paragraphs of at least `BLOCK_CHARACTERS`: the unit a corpus is split by."""
    block = ""
    for paragraph in re.split(r"\n\s*\n", text):
        block += paragraph.strip("\n") + "\n\n"
        if len(block) >= BLOCK_CHARACTERS:
            yield block.strip()
            block = ""
    if block.strip():
        yield block.strip()


def _gutenberg(root: Path) -> Iterator[tuple[Part | None, Row]]:
    for file in sorted((root / "corpus_gutenberg").glob("*/*.txt")):
        for block in _blocks(file.read_text(encoding="utf-8")):
            yield None, {"text": block}


def _tinyshakespeare(root: Path) -> Iterator[tuple[Part | None, Row]]:
    for block in _blocks((root / "corpus_tinyshakespeare" / "input.txt").read_text(encoding="utf-8")):
        yield None, {"text": block}


def _tinystories(root: Path) -> Iterator[tuple[Part | None, Row]]:
    for file in ("tinystories_head.txt", "tinystories_train_slice.txt"):
        for story in (root / "corpus_tinystories" / file).read_text(encoding="utf-8").split("<|endoftext|>"):
            if text := story.strip():
                yield None, {"text": text}


def _wikitext2(root: Path) -> Iterator[tuple[Part | None, Row]]:
    """The official train part is too large to be at hand, so valid trains. One row an article."""
    of: dict[str, Part] = {"valid": "train", "test": "test"}
    for name, part in of.items():
        text = (root / "corpus_wikitext2" / f"{name}.txt").read_text(encoding="utf-8")
        for article in re.split(r"\n(?= = [^=])", text):
            if article.strip():
                yield part, {"text": "\n".join(line.strip() for line in article.strip().splitlines())}


def _onestop(root: Path) -> Iterator[tuple[Part | None, Row]]:
    for level in ("adv", "int", "ele"):
        for entry in _json_lines(root / "corpus_onestop" / f"{level}.jsonl"):
            article = re.sub(rf"\W*{level}\w*$", "", entry["title"], flags=re.IGNORECASE)
            yield None, {"text": entry["text"], "article": article}


@dataclass(frozen=True, slots=True)
class DataSet:
    """`read(root)` yields (official part or None, row); `texts` are the fields that hold prose, never class names.

    Rows without an official part are split by `split_by`, so that rewordings of one text stay on one side.
    """

    read: Reader
    texts: tuple[str, ...]
    split_by: str = "text"
    corpus: bool = False


DATA_SETS: dict[str, DataSet] = {
    "snips": DataSet(_snips, ("text",)),
    "clinc150": DataSet(_clinc150, ("text",)),
    "banking77": DataSet(_banking77, ("text",)),
    "rt_polarity": DataSet(_sentences(negative="rt-polarity_neg.txt", positive="rt-polarity_pos.txt"), ("text",)),
    "subj": DataSet(_sentences(objective="subj_objective.txt", subjective="subj_subjective.txt"), ("text",)),
    "custrev": DataSet(_sentences(negative="custrev_neg.txt", positive="custrev_pos.txt"), ("text",)),
    "e2e_nlg": DataSet(_e2e_nlg, ("mr", "ref")),
    "dart": DataSet(_dart, ("triples", "ref")),
    "sgd": DataSet(_sgd, ("text",)),
    "scitldr": DataSet(_scitldr, ("doc", "summary")),
    "gsm8k": DataSet(_gsm8k, ("question", "answer")),
    "babi": DataSet(_babi, ("story",)),
    "sgd_dialogues": DataSet(_sgd_dialogues, ("text",), corpus=True),
    "gutenberg": DataSet(_gutenberg, ("text",), corpus=True),
    "tinyshakespeare": DataSet(_tinyshakespeare, ("text",), corpus=True),
    "tinystories": DataSet(_tinystories, ("text",), corpus=True),
    "wikitext2": DataSet(_wikitext2, ("text",), corpus=True),
    "onestop": DataSet(_onestop, ("text",), split_by="article", corpus=True),
}

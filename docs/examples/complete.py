"""OpenAI's client asks tasks: what is served, an answer, a stream: `python docs/examples/complete.py`.

`pip install openai`. SOFTPROMPT_URL names another server than the one of `make serve`.
"""

import os
import sys

from openai import OpenAI

URL = os.environ.get("SOFTPROMPT_URL", "http://127.0.0.1:8000")
KEY = os.environ.get("SOFTPROMPT_API_KEY", "a server without keys takes any")
RESTAURANT = {"mr": "name[Aromi], eatType[coffee shop], food[Italian], area[riverside]"}


def main() -> None:
    client = OpenAI(base_url=f"{URL}/v1", api_key=KEY)
    sys.stdout.write(f"models: {', '.join(model.id for model in client.models.list())}\n")

    inputs = {"inputs": "play some jazz by miles davis"}
    answer = client.completions.create(model="intent", prompt="", temperature=0, extra_body=inputs)
    sys.stdout.write(f"intent: {answer.choices[0].text}\nrestaurant: ")

    stream = client.completions.create(
        model="restaurant", prompt="", temperature=0, max_tokens=40, stream=True, extra_body={"inputs": RESTAURANT}
    )
    for chunk in stream:
        sys.stdout.write(chunk.choices[0].text)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()

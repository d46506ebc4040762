"""The Python client asks tasks and changes them, waiting or not: `python docs/examples/client.py`.

SOFTPROMPT_URL names another server than the one of `make serve`.
"""

import asyncio
import sys

from softprompt_client import AsyncClient, Client, SoftpromptError

RESTAURANT = {"mr": "name[Aromi], eatType[coffee shop], food[Italian], area[riverside]"}
TEXTS = ("play some jazz", "will it rain in paris tomorrow", "add this song to my workout playlist")
STORY = {"kind": "text", "template": "Once upon a time there was a {who}.", "defaults": {"max_new_tokens": 8}}


def waiting() -> None:
    """One thing after the other."""
    with Client() as client:
        answer = client.generate("intent", "play some jazz by miles davis")
        sys.stdout.write(f"intent: {answer['generated_text']}, version {answer['version']}\nrestaurant: ")

        for event in client.generate_stream("restaurant", RESTAURANT, max_new_tokens=40):
            sys.stdout.write(event["token"]["text"])
        sys.stdout.write("\n")

        likeliest = client.classify("intent", "play some jazz")["scores"][0]
        sys.stdout.write(f"likeliest: {likeliest['label']} ({likeliest['probability']:.2f})\n")

        published = client.tasks.publish("client-story", STORY)
        client.tasks.patch("client-story", {"description": "a teller"}, if_match=published.task["digest"])
        client.tasks.rollback("client-story", published.task["version"])
        events = [version["event"] for version in client.tasks.versions("client-story")]
        sys.stdout.write(f"history, newest first: {', '.join(events[:3])}\n")
        client.tasks.delete("client-story")

        try:
            client.generate("client-story", "king")
        except SoftpromptError as error:
            sys.stdout.write(f"afterwards: {error.status} {error.code}, worth another try: {error.retryable}\n")


async def at_once() -> None:
    """Several requests in flight, which share forward passes."""
    async with AsyncClient() as client:
        answers = await asyncio.gather(*(client.generate("intent", text) for text in TEXTS))
        sys.stdout.write(f"at once: {', '.join(answer.get('generated_text', '') for answer in answers)}\n")
        names = [task["id"] async for task in client.tasks.list(kind="embeddings")]
        sys.stdout.write(f"tasks with learnt embeddings: {len(names)}\n")


if __name__ == "__main__":
    waiting()
    asyncio.run(at_once())

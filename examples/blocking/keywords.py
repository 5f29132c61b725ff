"""`python keywords.py REGISTRY`: a batch of texts through the mesh, from a script that is not async."""

import pydoc_data.topics
import sys
from concurrent.futures import ThreadPoolExecutor

from atomesh.balancer import BlockingClient
from atomesh.core import Contract
from atomesh.core.errors import AtomeshError
from atomesh.text.v1.text_pb2 import TextInput, TextOptions, TextOutput

TEXT = Contract("text-processor", TextInput, TextOutput)
SHOWN = ("assert", "lambda", "while", "with", "yield")
CALLS_AT_ONCE = 16


def main(registry: str) -> int:
    topics = {name: text[:10_000] for name, text in pydoc_data.topics.topics.items()}

    with BlockingClient(registry) as mesh:  # one for the whole script, and for all its threads

        def keywords(text: str) -> str:
            best = TextOptions(top_k=3)
            return mesh.call(TEXT, TextInput(content=text, operation="extract_keywords", options=best)).result

        for name in SHOWN:  # one after the other is as simple as it looks
            print(f"{name}: {keywords(topics[name])}")

        with ThreadPoolExecutor(CALLS_AT_ONCE) as threads:  # threads keep all endpoints busy
            found = dict(zip(topics, threads.map(keywords, topics.values()), strict=True))
        print(f"{len(found)} texts, {sum(bool(words) for words in found.values())} with keywords")

        try:
            keywords("   ")
        except AtomeshError as error:
            print(f"{error.reason}: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

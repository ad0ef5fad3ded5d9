"""The short form of `benchmarks.serve`: many clients at a time, each answer as alone."""

import collections
import concurrent.futures

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")

from serving_client import LLAMA, model, running  # noqa: E402

from benchmarks import serve  # noqa: E402
from specialm.serving.decoding import columns  # noqa: E402
from specialm.serving.server.limits import Limits  # noqa: E402


@pytest.mark.slow
def test_every_answer_under_load_is_that_of_generation_alone(bpe_vocabulary, monkeypatch):
    monkeypatch.setattr(columns, "ROW_SIZES", ())  # one shape of rows: little is compiled
    limits = Limits(rows=4)
    served = model("m", bpe_vocabulary, LLAMA, limits, context=256)
    plans = serve.plan(24, seed=2)
    with running([served], limits) as port:
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda each: serve.send(port, each), plans))
        assert served.worker.unfinished == 0 or served.worker.running <= 4
    alone = serve.Alone(served.worker.engine.anew())
    verdicts = [serve.verdict(p, a, alone) for p, a in zip(plans, answers, strict=True)]
    found = collections.Counter(verdicts)
    assert set(found) <= {"right", "refused", "left early"}, found
    assert found["right"] > 12 and found["refused"] > 0
    # The comparison finds what is wrong.
    first = verdicts.index("right")
    other = next(
        n for n in range(first + 1, 24) if answers[n].get("text") != answers[first]["text"]
    )
    assert serve.verdict(plans[first], answers[other], alone) == "wrong"

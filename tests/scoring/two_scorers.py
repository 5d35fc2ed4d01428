"""Run by `test_distributed` in two processes: the calls of one scorer, dealt to both."""

import sys
from pathlib import Path

import numpy as np
from test_distributed import CHATS, OPTIONS
from tiny_models import tiny_model, tiny_tokenizer
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from fairpp_hf.scoring import OptionScorer, SharedScorer, join_processes, option_scorer

out = Path(sys.argv[1])
process, count = join_processes()
plain = OptionScorer(tiny_model(), tiny_tokenizer(), batch_size=2)
scorer = SharedScorer(plain)
parameter = next(plain.model.parameters())
whole = option_scorer.is_divided(plain.model)
parameter.ds_id = 0  # as DeepSpeed marks what it divides
divided = option_scorer.is_divided(plain.model)
del parameter.ds_id
whole_model = tiny_model()
for layer in whole_model.model.layers:
    fully_shard(layer, mesh=init_device_mesh("cpu", (count,)))
sharded = OptionScorer(fully_shard(whole_model, mesh=init_device_mesh("cpu", (count,))), tiny_tokenizer())
np.save(out / f"sharded_{process}.npy", sharded.score(CHATS, OPTIONS).logprobs)
np.save(out / f"verdicts_{process}.npy", [whole, divided])
if process:
    served = []
    score = plain.iterate_encoded

    def watched(questions):
        served.append(len(questions))
        if any(tiny_tokenizer().decode(question.prompt).count("fail") for question in questions):
            raise ValueError("this one cannot")
        return score(questions)

    plain.iterate_encoded = watched
    scorer.serve()
    np.save(out / "served.npy", served)
else:
    try:
        found = {"count": count, "logprobs": scorer.score(CHATS, OPTIONS).logprobs}
        found["letters"] = scorer.score(CHATS, OPTIONS).letter_logprobs
        found["one"] = scorer.score(CHATS[:1], OPTIONS[:1]).logprobs
        found["none"] = scorer.score([], []).logprobs
        next(scorer.iterate(CHATS, OPTIONS))  # and left half-way
        begun = scorer.iterate(CHATS, OPTIONS)
        found["own_rows"] = next(begun)[0]
        ((found["left_rows"], left),) = scorer.leave()
        found["left"] = left.logprobs
        try:
            scorer.score([[{"role": "user", "content": f"fail {number}"}] for number in range(3)], OPTIONS[:3])
        except RuntimeError as error:
            found["error"] = str(error)
        found["after"] = scorer.score(CHATS, OPTIONS).logprobs
        found["hash"] = scorer.template_hash
        np.savez(out / "found.npz", **found)
    finally:
        scorer.close()

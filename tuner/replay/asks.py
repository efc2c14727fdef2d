"""Optuna for make bench-replay: one JSON line in, one out.

in   {"op": "start", "sampler": "tpe" | "gp", "startup": 10, "seed": 1, "sizes": [3, 7, 2, 4], "ordered": [false, true, false, true]}
     {"op": "tell", "value": 1.5}    or null for a trial that did not fit
out  {"ask": [0, 3, 1, 2]}           an index into the values of each knob

A trial that did not fit is told as violating a constraint, with the worst value
seen so far: both samplers then learn what fits.
"""

import json
import sys
import warnings

import optuna

warnings.simplefilter("ignore")
optuna.logging.disable_default_handler()


def constraints(trial):
    return (trial.user_attrs["violation"],)


def sampler(start):
    common = {"seed": start["seed"], "n_startup_trials": start["startup"], "constraints_func": constraints}
    if start["sampler"] == "gp":
        return optuna.samplers.GPSampler(**common)
    return optuna.samplers.TPESampler(**common)


def main():
    study = trial = start = None
    worst = 0.0
    for line in sys.stdin:
        message = json.loads(line)
        if message["op"] == "start":
            start, worst = message, 0.0
            study = optuna.create_study(sampler=sampler(start))
        else:
            value = message["value"]
            trial.set_user_attr("violation", 1.0 if value is None else -1.0)
            worst = max(worst, value or 0.0)
            study.tell(trial, worst or 1.0 if value is None else value)
        trial = study.ask()
        ask = []
        for i, (size, ordered) in enumerate(zip(start["sizes"], start["ordered"])):
            if ordered:
                ask.append(trial.suggest_int(f"k{i}", 0, size - 1))
            else:
                ask.append(trial.suggest_categorical(f"k{i}", list(range(size))))
        print(json.dumps({"ask": ask}), flush=True)


main()

"""Has the vendors' own libraries judge the stand-in for their servers: `judge.py URL`.

`scripts/test-sdks` starts the stand-in with the key `bench.KEY` and runs this. Each judgement is called
after what it shows. All are tried; the exit code is 0 if all hold.
"""

import sys
import time
import traceback

import anthropic
import openai

import judge_anthropic
import judge_openai
from bench import StandIn


def main():
    bench, failed, begin = StandIn(sys.argv[1]), 0, time.monotonic()
    judges = ((anthropic, judge_anthropic), (openai, judge_openai))
    for library, judge in judges:
        for judgement in judge.JUDGEMENTS:
            said = f"{library.__name__} {library.__version__}: {judgement.__name__.replace('_', ' ')}"
            bench.forget()
            try:
                judgement(bench)
            except Exception:  # noqa: BLE001: the others are tried all the same
                failed += 1
                print(f"FAILED {said}")
                traceback.print_exc(file=sys.stdout)
            else:
                print(f"ok     {said}")
    print(f"{failed} failed, {time.monotonic() - begin:.1f} s")
    return 1 if failed else 0


sys.exit(main())

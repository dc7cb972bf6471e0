"""Builds one library in a process of its own, so that its processor time can be told: takes a job, prints JSON."""

from __future__ import annotations

import json
import resource
import sys
from typing import Any

import lrfdse
from lrfdse.base.processes import end_with_parent
from lrfdse.errors import LrfdseError


def seconds() -> float:
    """Return the processor seconds of this process and of all that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Build a library; return the facts of its ``NAME.json`` and the processor seconds, or why there is none."""
    end_with_parent()
    begin = seconds()
    options = {"meter": job["meter"], "cache": job["cache"]}
    try:
        built = lrfdse.build(job["model"], job["target"], job["folder"], **options)
    except LrfdseError as error:
        return {"failure": str(error).replace(job["model"], job["model"].rpartition("/")[2])}
    return {"facts": json.loads(built.facts.json), "seconds": seconds() - begin}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))

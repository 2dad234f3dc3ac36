from __future__ import annotations

import json

from hidvae.features.tags.llm_client import Answer
from hidvae.features.tags.llm_report import LLMReport, report_answers


def test_only_what_was_asked_in_this_run_counts() -> None:
    answers = [
        Answer("", 1000, 100, was_cached=False, failed_tries=2),
        Answer("", 500, 50, was_cached=False),
        Answer("", 7000, 700, was_cached=True),
    ]
    report = report_answers(answers, seconds=1.5)
    assert (report.requests, report.cached, report.failed_tries) == (3, 1, 2)
    assert (report.prompt_tokens, report.completion_tokens) == (1500, 150)
    assert report.seconds == 1.5


def test_reports_add_up() -> None:
    a = LLMReport(questions=3, chosen=1, none=1, refused=1, seconds=1.0)
    b = LLMReport(questions=2, chosen=2, requests=2, seconds=0.5)
    assert a + b == LLMReport(questions=5, chosen=3, none=1, refused=1, requests=2, seconds=1.5)
    assert a + LLMReport() == a


def test_a_report_is_json_and_one_line() -> None:
    report = LLMReport(questions=3, chosen=2, refused=1)
    assert LLMReport(**json.loads(json.dumps(report.as_dict()))) == report
    assert report.summary().startswith("3 questions: 2 answered, 0 none, 1 refused")
    assert "\n" not in report.summary()

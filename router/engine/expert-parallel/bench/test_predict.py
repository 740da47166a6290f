import json
import lzma

from predict import whole


def test_reports_are_read_as_written_and_packed(tmp_path):
    for name in ["plain", "packed"]:
        (tmp_path / name).mkdir()
    text = "".join(json.dumps(report) + "\n" for report in [{"cell": "a"}, {"cell": "b", "error": "hung"}, {"cell": "c"}])
    (tmp_path / "plain" / "cells.jsonl").write_text(text)
    with lzma.open(tmp_path / "packed" / "cells.jsonl.xz", "wt") as file:
        file.write(text)
    assert [report["cell"] for report in whole([tmp_path / "plain", tmp_path / "packed"])] == ["a", "c", "a", "c"]

"""Reads a report in JUnit's XML strictly, and says in JSON what it counts."""

import json
import sys
import xml.etree.ElementTree as ElementTree


def main(file):
    root = ElementTree.parse(file).getroot()
    assert root.tag == "testsuites", root.tag
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for suite in root:
        assert suite.tag == "testsuite", suite.tag
        cases = [case for case in suite if case.tag == "testcase"]
        assert int(suite.get("tests")) == len(cases), suite.get("name")
        seen = {"passed": 0, "failed": 0, "skipped": 0}
        for case in cases:
            assert case.get("name") and case.get("classname") and float(case.get("time")) >= 0
            assert case.findall("properties/property[@name='clause']"), case.get("name")
            if (failure := case.find("failure")) is not None:
                assert failure.get("message") and failure.text
                seen["failed"] += 1
            elif (skipped := case.find("skipped")) is not None:
                assert skipped.get("message")
                seen["skipped"] += 1
            else:
                seen["passed"] += 1
        assert int(suite.get("failures")) == seen["failed"], suite.get("name")
        assert int(suite.get("skipped")) == seen["skipped"], suite.get("name")
        counts = {kind: counts[kind] + seen[kind] for kind in counts}
    assert int(root.get("tests")) == sum(counts.values())
    assert int(root.get("failures")) == counts["failed"]
    assert int(root.get("skipped")) == counts["skipped"]
    print(json.dumps(counts))


main(sys.argv[1])

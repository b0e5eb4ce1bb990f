#!/usr/bin/env python3
"""The pure parts of the side-by-side measurement, and the running of single commands. Needs nothing but Python.

The last line counts: "N passed, N failed".
"""

import sys
import unittest
from pathlib import Path
from typing import ClassVar

sys.path.insert(0, str(Path(__file__).resolve().parent))

from report import readers
from report.aims import AIMS, Aim, figure_of, judge, pick
from report.figures import METRICS, Spread, cell, number, spread, spread_of
from report.machine import bytes_abroad
from report.measure import Failed, Hung, Measurement, run
from report.plan import FLOOR, OURS, TITLES, Plan, Row, Table
from report.render import document, markdown_table, met, notes_by_letter

HERE = Path(__file__).resolve().parent


def table(key: str, rows: dict[str, list[dict]]) -> dict:
    """A measured table with the columns rate and p50Us."""
    shaped = [{"system": name, "command": f"run {name}", "rounds": rounds, "failures": []} for name, rounds in rows.items()]
    return {"letter": key[0], "key": key, "title": "so many", "columns": ["rate", "p50Us"], "plot": "rate", "rows": shaped}


def rates(*values: float) -> list[dict]:
    """Rounds with these rates."""
    return [{"rate": value, "p50Us": None} for value in values]


class FiguresTest(unittest.TestCase):
    def test_a_spread_is_the_middle_and_the_ends(self):
        self.assertEqual(spread([3, 1, 2]), Spread(2, 1, 3))
        self.assertEqual(spread([4, 1]), Spread(2.5, 1, 4))
        self.assertIsNone(spread([]))

    def test_rounds_without_the_metric_do_not_count(self):
        self.assertEqual(spread_of([{"rate": 1}, {"rate": None}, {}], "rate"), Spread(1, 1, 1))

    def test_three_digits_count(self):
        written = {0: "0", 0.0512: "0.0512", 1.2345: "1.23", 45.67: "45.7", 123.4: "123", 999.7: "1,000", 484_321: "484,000"}
        for value, text in written.items():
            self.assertEqual(number(value), text)

    def test_a_cell_has_ends_only_where_they_differ(self):
        self.assertEqual(cell(Spread(2, 1, 3)), "2 (1–3)")
        self.assertEqual(cell(Spread(2, 2, 2)), "2")
        self.assertEqual(cell(None), "–")


class AimsTest(unittest.TestCase):
    def verdict(self, says: str, tables: list[dict]):
        return next(verdict for verdict in judge(tables) if verdict.aim.says == says)

    def test_a_bound_is_met_or_missed_by_the_median(self):
        says = "tasks a second, 512 in flight"
        good = self.verdict(says, [table("a-512", {OURS: rates(150_000, 210_000, 220_000)})])
        self.assertIs(good.is_met, True)
        bad = self.verdict(says, [table("a-512", {OURS: rates(150_000, 150_000, 220_000)})])
        self.assertIs(bad.is_met, False)
        self.assertEqual(met(bad), "**not met**, by 25%")

    def test_a_ratio_is_to_the_best_peer_and_has_the_ends_of_its_rounds(self):
        rows = {OURS: rates(100, 120, 110), "loky": rates(1, 2, 1), "pebble": rates(10, 10, 22)}
        verdict = self.verdict("throughput to the best peer's, 512 in flight", [table("a-512", rows)])
        self.assertEqual(verdict.figure, Spread(11, 5, 12))

    def test_rounds_that_do_not_pair_give_no_ends(self):
        rows = {OURS: rates(100, 120, 110), FLOOR: rates(220, 220)}
        verdict = self.verdict("throughput to the floor relay's, 512 in flight", [table("a-512", rows)])
        self.assertEqual(verdict.figure, Spread(0.5, 0.5, 0.5))

    def test_what_has_no_figure_was_not_measured(self):
        verdict = self.verdict("tasks a second, 512 in flight", [table("a-512", {OURS: []})])
        self.assertIsNone(verdict.is_met)
        self.assertEqual(met(verdict), "not measured")
        self.assertEqual(judge([table("m", {OURS: rates(1)})]), [])

    def test_of_less_is_better_the_least_is_the_best(self):
        rows = {"a": [{"seconds": 3}], "b": [{"seconds": 2}]}
        aim = Aim("h", "x", pick("h", ("a", "b"), "seconds"), 2, at_least=False)
        self.assertEqual(figure_of(aim, [table("h", rows)]).median, 2)


class PlanTest(unittest.TestCase):
    def setUp(self):
        self.tables = Plan(scale=0.1, idle_seconds=5).tables()

    def test_every_aim_is_about_figures_that_are_measured(self):
        measured = {(table.key, row.system, column) for table in self.tables for row in table.rows for column in table.columns}
        for aim in AIMS:
            for wanted in filter(None, (aim.value, aim.against)):
                for system in wanted.systems:
                    self.assertIn((wanted.table, system, wanted.metric), measured, aim.says)

    def test_tables_and_rows_have_names_of_their_own(self):
        keys = [table.key for table in self.tables]
        self.assertEqual(len(keys), len(set(keys)))
        for table in self.tables:
            systems = [row.system for row in table.rows]
            self.assertEqual(len(systems), len(set(systems)), table.key)
            self.assertLessEqual({*table.columns, table.plot or table.columns[0]}, set(METRICS))

    def test_every_letter_is_measured(self):
        self.assertEqual({table.letter for table in self.tables}, set(TITLES))


class ReadersTest(unittest.TestCase):
    def test_a_round_of_ours(self):
        median = {"tasks": 1000, "rate": 5.0, "latencyUs": {"p50": 1.0, "p99": 2.0}}
        printed = {"median": {**median, "cpu": {"supervisor": 0.001, "workers": 0.002, "client": 0.001}}}
        self.assertEqual(readers.of_load(printed), {"rate": 5.0, "p50Us": 1.0, "p99Us": 2.0, "cpuUs": 4.0})
        printed["memory"] = {"supervisorPss": 1_000_000, "workersPss": [2_000_000, 3_000_000]}
        self.assertEqual(readers.of_load(printed)["pssMb"], 6)

    def test_a_round_of_a_peer_and_its_bytes(self):
        printed = {"tasks": 10, "seconds": 2, "p50": 1, "p99": 2, "lost": 0, "cpuSeconds": 0.5, "pss": 4_000_000}
        figures = readers.with_bytes(readers.of_peer, 1_000_000)(printed)
        self.assertEqual((figures["rate"], figures["cpuUs"], figures["pssMb"], figures["mbPerSecond"]), (5, 50_000, 4, 10))


class RenderTest(unittest.TestCase):
    RESULTS: ClassVar = {
        "command": "benches/run --only a",
        "quick": False,
        "rounds": 2,
        "machine": {"date": "today", "CPU": "fast"},
        "versions": {"Node": "v20"},
        "bytesAbroad": 0,
        "notMeasured": {"pueue": "no network"},
        "tables": [table("a-512", {OURS: rates(300_000, 310_000), "loky": rates(9, 11), "pebble": []})],
    }

    def test_the_document_shows_figures_aims_failures_notes_and_versions(self):
        self.RESULTS["tables"][0]["rows"][2]["failures"] = ["did not end", "did not end"]
        text = document(self.RESULTS, {"a": "Our words."}, {"a-512"})
        for part in (
            "| system | tasks/s |\n| --- | ---: |\n| this pool | 305,000 (300,000–310,000) |\n| loky | 10 (9–11) |\n",
            "| (a) tasks a second, 512 in flight | ≥ 200,000 | 305,000 (300,000–310,000) | met |",
            "- pebble: no figure: did not end\n",
            "![so many](plots/a-512.svg)",
            "run this pool\nrun loky\nrun pebble",
            "Our words.",
            "| program | version |\n| --- | ---: |\n| Node | v20 |",
            "- pueue: no network",
        ):
            self.assertIn(part, text)
        self.assertEqual(text.count("did not end"), 1)
        self.assertNotIn("quick run", text)

    def test_a_quick_run_says_so(self):
        self.assertIn("Its figures prove nothing", document({**self.RESULTS, "quick": True}, {}, set()))

    def test_a_table_has_as_many_columns_as_its_head(self):
        self.assertEqual(markdown_table(("system", "x"), [("a", "1")]), "| system | x |\n| --- | ---: |\n| a | 1 |\n")

    def test_notes_stand_under_their_letter(self):
        self.assertEqual(notes_by_letter("# Notes\nfor all\n\n## a\n\none\n\n## c\ntwo\n"), {"a": "one", "c": "two"})

    def test_the_notes_are_about_workloads_that_exist(self):
        self.assertLessEqual(set(notes_by_letter((HERE / "NOTES.md").read_text())), set(TITLES))


class MachineTest(unittest.TestCase):
    def test_only_other_interfaces_than_loopback_count(self):
        counts = "0 0 0 0 0 0 0"
        text = f"head\nhead\n    lo: 500 {counts} 500 {counts}\n  eth0: 7 {counts} 5 {counts}\n"
        self.assertEqual(bytes_abroad(text), 12)


class ScriptedTools:
    """Commands that print their row's number."""

    repository = HERE
    missing: ClassVar = {"rare": "nobody has it"}

    def __init__(self):
        self.ran = []

    def argv(self, row: Row) -> list[str]:
        self.ran.append(row.system)
        return ["echo", *row.arguments]

    def shown(self, row: Row) -> str:
        return row.system


class MeasureTest(unittest.TestCase):
    def test_the_last_line_counts(self):
        self.assertEqual(run(["echo", 'hello\n{"rate": 1}\n'], HERE, 10), {"rate": 1})

    def test_a_failure_names_its_error(self):
        with self.assertRaisesRegex(Failed, "Error: no"):
            run(["sh", "-c", "echo 'Error: no' >&2; echo 'Node 20' >&2; exit 1"], HERE, 10)
        with self.assertRaisesRegex(Failed, "ended with 3 and said nothing"):
            run(["sh", "-c", "exit 3"], HERE, 10)

    def test_what_hangs_is_ended_with_its_children(self):
        with self.assertRaisesRegex(Hung, "did not end within 0 s"):
            run(["sh", "-c", "sleep 600 & sleep 600"], HERE, 0.2)

    def test_rounds_alternate_and_what_cannot_run_is_not_tried_again(self):
        def row(system: str, printed: str, peer: str | None = None) -> Row:
            return Row(system, "load", (printed,), lambda figures: figures, peer)

        rows = (row("one", '{"rate": 1}'), row("two", '{"rate": 2}'), row("three", "{}", "rare"))
        tools = ScriptedTools()
        measurement = Measurement([Table("a", "a", "title", ("rate",), rows)], tools, lambda _: None)
        measurement.round(0)
        measurement.round(1)
        self.assertEqual(tools.ran, ["one", "two", "two", "one"])
        one, two, three = measurement.tables()[0]["rows"]
        self.assertEqual((one["rounds"], two["rounds"], three["rounds"]), ([{"rate": 1}] * 2, [{"rate": 2}] * 2, []))
        self.assertEqual(three["failures"], ["not installed: nobody has it"])


if __name__ == "__main__":
    outcome = unittest.main(exit=False).result
    failed = len(outcome.failures) + len(outcome.errors)
    print(f"{outcome.testsRun - failed} passed, {failed} failed")
    sys.exit(failed != 0)

from __future__ import annotations

from atomesh.pipelines.store.backlog import Backlog
from atomesh.pipelines.store.rows import Row


def row(id: str, *, over: bool = True, size: int = 10) -> Row:
    return Row(id, "p", 3 if over else 2, 1.0, 2.0 if over else None, "", durable=False, head=b"x" * size)


def test_rows_are_taken_in_the_order_in_which_they_came_and_stay_until_written() -> None:
    backlog = Backlog()
    for id in "abc":
        backlog.add(row(id))
    first = backlog.take(2)
    assert [one.id for one in first] == ["a", "b"]
    assert len(backlog) == 3, "what is not written yet must not be forgotten"
    backlog.written(first)
    assert [one.id for one in backlog.take(9)] == ["c"]


def test_the_end_of_a_run_replaces_its_begin() -> None:
    backlog = Backlog()
    backlog.add(row("a", over=False))
    backlog.add(row("a"))
    backlog.add(row("a", over=False))
    assert [one.ended_at for one in backlog.take(9)] == [2.0], "a begin says nothing that an end did not"


def test_above_its_number_the_oldest_give_way_and_ends_are_counted_as_lost() -> None:
    backlog = Backlog(max_rows=2)
    for one in (row("a", over=False), row("b"), row("c"), row("d")):
        backlog.add(one)
    assert [one.id for one in backlog.take(9)] == ["c", "d"]
    assert backlog.lost == 1, "a run whose begin gave way is not lost: its end says it all"


def test_above_its_bytes_the_oldest_give_way_but_never_the_last() -> None:
    backlog = Backlog(max_bytes=25)
    for id in "abc":
        backlog.add(row(id))
    assert [one.id for one in backlog.take(9)] == ["b", "c"]
    backlog.add(row("large", size=1000))
    assert [one.id for one in backlog.take(9)] == ["large"], "a large run is kept where it is the newest"
    backlog.written(backlog.take(9))
    backlog.add(row("d"))
    backlog.add(row("e"))
    assert len(backlog) == 2, "what is written must weigh no more"

"""Admission and claims, driven by a model: whatever is delivered, what enters is contiguous and claims are true."""

from hypothesis import given
from hypothesis import strategies as st

from streams.ledger import Admission, Ledger


def test_only_the_expected_offset_enters() -> None:
    ledger = Ledger(5)
    assert ledger.claimable == 4
    assert ledger.offer(7, 7) is Admission.GAP
    assert ledger.offer(7, 6) is Admission.GAP
    assert ledger.offer(4, 4) is Admission.SKIP
    assert ledger.offer(5, 5) is Admission.ENTER
    assert ledger.offer(5, 5) is Admission.SKIP
    assert ledger.expected == 6


def test_claims_wait_for_the_oldest_open_record() -> None:
    ledger = Ledger(0)
    for offset in range(3):
        ledger.offer(offset, offset)
    ledger.settle(2)
    ledger.settle(1)
    assert ledger.claimable == -1
    ledger.settle(0)
    assert ledger.claimable == 2


def test_a_proved_hole_is_claimed_with_what_is_before_it() -> None:
    ledger = Ledger(0)
    ledger.offer(0, 0)
    ledger.step_over(10)
    assert ledger.claimable == -1
    ledger.settle(0)
    assert ledger.claimable == 9
    assert ledger.offer(10, 10) is Admission.ENTER


def test_a_hole_that_the_fetch_has_shown_is_no_gap() -> None:
    ledger = Ledger(3)
    assert ledger.offer(7, 2) is Admission.ENTER
    assert ledger.offer(12, 8) is Admission.ENTER
    assert ledger.claimable == 6
    ledger.settle(12)
    ledger.settle(7)
    assert (ledger.claimable, ledger.expected) == (12, 13)


steps = st.lists(
    st.tuples(st.sampled_from(["deliver", "fetch", "settle", "settle_any", "hole"]), st.integers(0, 30)), max_size=120
)


@given(st.integers(0, 10), steps)
def test_claim_never_covers_an_unsettled_record(start: int, moves: list[tuple[str, int]]) -> None:
    ledger = Ledger(start)
    entered: list[int] = []
    settled: set[int] = set()
    holes: set[int] = set()
    last_claim = ledger.claimable
    for kind, number in moves:
        if kind == "deliver":
            expected = ledger.expected
            if ledger.offer(number, number) is Admission.ENTER:
                assert number == expected
                entered.append(number)
        elif kind == "fetch":
            after, offset = ledger.expected + number % 5 - 2, ledger.expected + number % 7
            missing = set(range(ledger.expected, offset))
            admission = ledger.offer(offset, min(after, offset))
            assert (admission is Admission.ENTER) == (min(after, offset) <= offset - len(missing))
            if admission is Admission.ENTER:
                entered.append(offset)
                holes |= missing
        elif kind == "settle" and entered:
            offset = entered[number % len(entered)]
            ledger.settle(offset)
            settled.add(offset)
        elif kind == "settle_any":  # of an older assignment, say
            ledger.settle(number + 1000)
        elif kind == "hole":
            to = ledger.expected + number % 3
            holes |= set(range(ledger.expected, to))
            ledger.step_over(to)
        assert ledger.claimable >= last_claim
        last_claim = ledger.claimable
        assert all(offset in settled or offset in holes for offset in range(start, last_claim + 1))
    assert ledger.open_count == len([offset for offset in entered if offset > ledger.claimable])

"""The state machine's tables are sane."""

import itertools
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from steelyard.specs.states import (
    MOVES,
    TERMINAL_STATES,
    VERBS,
    JobState,
    Verb,
    may_move,
    refuse_verb,
)

STATES = st.sampled_from(list(JobState))
VERB_NAMES = st.sampled_from(list(Verb))


def reachable(start: JobState) -> set[JobState]:
    found, open_ = {start}, [start]
    while open_:
        new = MOVES[open_.pop()] - found
        found |= new
        open_ += new
    return found


def test_every_state_has_its_row_and_every_verb_its_own() -> None:
    assert set(MOVES) == set(JobState)
    assert set(VERBS) == set(Verb)


def test_every_state_can_be_reached_from_submission() -> None:
    assert reachable(JobState.VALIDATING) == set(JobState)


def test_an_end_can_be_reached_from_every_state() -> None:
    for state in JobState:
        assert reachable(state) & TERMINAL_STATES, state


def test_nothing_leads_out_of_an_end_but_retry() -> None:
    retried_from, retried_to = VERBS[Verb.RETRY]
    for state in TERMINAL_STATES:
        assert MOVES[state] <= {retried_to}
        assert bool(MOVES[state]) == (state in retried_from)


def test_no_row_names_its_own_state() -> None:
    for state, targets in MOVES.items():
        assert state not in targets


@given(VERB_NAMES, STATES)
def test_a_verb_that_is_allowed_is_a_legal_move(verb: Verb, state: JobState) -> None:
    allowed, target = VERBS[verb]
    if state in allowed and target is not None:
        assert may_move(state, target)
        assert target in MOVES[state]


@given(VERB_NAMES, STATES)
def test_a_verb_is_refused_by_a_sentence_that_names_the_state(verb: Verb, state: JobState) -> None:
    refusal = refuse_verb(verb, state)

    if state in VERBS[verb][0]:
        assert refusal is None
    else:
        assert refusal is not None
        assert state.value in refusal
        assert all(possible.value in refusal for possible in VERBS[verb][0])


def test_every_live_job_can_be_cancelled_but_one_that_is_being_cancelled() -> None:
    allowed, _ = VERBS[Verb.CANCEL]
    assert allowed == set(JobState) - TERMINAL_STATES - {JobState.CANCELLING}


def test_a_cancelled_job_never_comes_back_by_itself() -> None:
    assert MOVES[JobState.CANCELLING] == {JobState.CANCELLED}


def test_a_paused_job_moves_only_by_a_verb() -> None:
    by_verbs = {target for allowed, target in VERBS.values() if JobState.PAUSED in allowed and target}
    assert MOVES[JobState.PAUSED] == by_verbs


@given(st.lists(st.tuples(VERB_NAMES, st.randoms(use_true_random=False)), max_size=30))
def test_whatever_is_asked_in_whatever_order_states_stay_legal(steps: list[tuple[Verb, Random]]) -> None:
    """People ask at random, the platform moves at random between: each step is in the table."""
    state = JobState.VALIDATING
    for verb, random in steps:
        moves = sorted(MOVES[state] - {VERBS[Verb.RETRY][1]})
        if moves and random.random() < 0.5:
            state = random.choice(moves)
        before = state
        if refuse_verb(verb, state) is None:
            state = VERBS[verb][1] or state
        assert may_move(before, state)


def test_staying_is_legal_and_jumping_is_not() -> None:
    assert all(may_move(state, state) for state in JobState)
    illegal = [
        (source, target)
        for source, target in itertools.product(JobState, JobState)
        if source != target and target not in MOVES[source]
    ]
    assert (JobState.SUCCEEDED, JobState.RUNNING) in illegal
    assert not any(may_move(source, target) for source, target in illegal)

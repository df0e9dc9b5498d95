"""The job state machine: states, verbs, and the moves that are legal. The one place that knows them.

`MOVES` holds every legal change of state. `VERBS` says from which states a person may ask for what, and
which transitional state the request puts the job in at once. Everything else is refused with a reason.
"""

from enum import StrEnum


class JobState(StrEnum):
    """Where a job is, in words that users see."""

    VALIDATING = "validating"
    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    RESUMING = "resuming"
    RECOVERING = "recovering"
    AWAITING_APPROVAL = "awaiting_approval"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Verb(StrEnum):
    """What a person may ask of a job."""

    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"
    RETRY = "retry"
    SET_PRIORITY = "set_priority"


class Reason(StrEnum):
    """Machine codes of `status_reason` and of an attempt's cause of end."""

    WAITING_FOR_CAPACITY = "waiting_for_capacity"
    WAITING_FOR_PREEMPTION = "waiting_for_preemption"
    QUOTA_EXCEEDED = "quota_exceeded"
    PRICE_CAP = "price_cap"
    UNSCHEDULABLE = "unschedulable"
    PREEMPTED = "preempted"
    EVICTED = "evicted"
    SPOT_INTERRUPTED = "spot_interrupted"
    """Its node is taken away."""
    IDLE = "idle"
    """It held GPUs and didn't use them."""
    BUDGET_EXHAUSTED = "budget_exhausted"
    PAUSED_BY_USER = "paused_by_user"
    CANCELLED_BY_USER = "cancelled_by_user"
    PRUNED = "pruned"
    """A trial that its search has stopped early; it is a result, and never tried again."""
    FAMILY_PAUSED = "family_paused"
    """The search or pipeline that it belongs to is paused; it goes on together with that."""
    FAMILY_OVER = "family_over"
    """The search or pipeline that it belongs to is over, or was cancelled."""
    PLATFORM_STOPPED = "platform_stopped"
    COMPLETED = "completed"
    TRAINING = "training"
    EVALUATING = "evaluating"
    REGISTERING = "registering"
    NODE_LOST = "node_lost"
    PROCESS_KILLED = "process_killed"
    TRAINER_FAILED = "trainer_failed"
    TRANSIENT_FAILURE = "transient_failure"
    LEASE_LOST = "lease_lost"
    STALLED = "stalled"
    BAD_CONFIG = "bad_config"
    NAN_LOSS = "nan_loss"
    OUT_OF_MEMORY = "out_of_memory"
    DISK_FULL = "disk_full"
    MODEL_NOT_FOUND = "model_not_found"
    DATASET_EMPTY = "dataset_empty"
    DATASET_NOT_FOUND = "dataset_not_found"
    NO_CHAT_TEMPLATE = "no_chat_template"
    BAD_CHAT_TEMPLATE = "bad_chat_template"
    SEQUENCE_TOO_LONG = "sequence_too_long"
    GATE_FAILED = "gate_failed"
    TOO_MANY_FAILED_TRIALS = "too_many_failed_trials"
    NO_TRIAL_SUCCEEDED = "no_trial_succeeded"
    REWARD_MODEL_TOO_WEAK = "reward_model_too_weak"
    """It doesn't order held-out pairs well enough to train a policy against."""
    RETRIES_EXHAUSTED = "retries_exhausted"
    MAX_RUNTIME_EXCEEDED = "max_runtime_exceeded"
    MODEL_DAMAGED = "model_damaged"
    OBJECT_STORE_UNAVAILABLE = "object_store_unavailable"
    """What it wrote is on its node's disk, and can't get to the bucket; that is tried again."""
    PLATFORM_ERROR = "platform_error"


TERMINAL_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})

_S = JobState

MOVES: dict[JobState, frozenset[JobState]] = {
    # To running without a place goes what is made of other jobs.
    _S.VALIDATING: frozenset({_S.QUEUED, _S.RUNNING, _S.PAUSING, _S.CANCELLING, _S.FAILED}),
    _S.QUEUED: frozenset({_S.STARTING, _S.PAUSING, _S.CANCELLING, _S.FAILED}),
    _S.STARTING: frozenset(
        {_S.RUNNING, _S.QUEUED, _S.RECOVERING, _S.PAUSING, _S.CANCELLING, _S.SUCCEEDED, _S.FAILED}
    ),
    _S.RUNNING: frozenset(
        {
            _S.STARTING,
            _S.QUEUED,
            _S.RECOVERING,
            _S.AWAITING_APPROVAL,
            _S.PAUSING,
            _S.CANCELLING,
            _S.SUCCEEDED,
            _S.FAILED,
        }
    ),
    _S.RECOVERING: frozenset({_S.QUEUED, _S.STARTING, _S.PAUSING, _S.CANCELLING, _S.FAILED}),
    _S.PAUSING: frozenset({_S.PAUSED, _S.CANCELLING, _S.SUCCEEDED, _S.FAILED}),
    _S.PAUSED: frozenset({_S.RESUMING, _S.CANCELLING}),
    _S.RESUMING: frozenset({_S.QUEUED, _S.RUNNING, _S.PAUSING, _S.CANCELLING, _S.FAILED}),
    _S.AWAITING_APPROVAL: frozenset({_S.RUNNING, _S.SUCCEEDED, _S.CANCELLING, _S.FAILED}),
    _S.CANCELLING: frozenset({_S.CANCELLED}),
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset({_S.VALIDATING}),
    _S.CANCELLED: frozenset({_S.VALIDATING}),
}

_LIVE = frozenset(JobState) - TERMINAL_STATES

VERBS: dict[Verb, tuple[frozenset[JobState], JobState | None]] = {
    Verb.CANCEL: (_LIVE - {_S.CANCELLING}, _S.CANCELLING),
    Verb.PAUSE: (
        frozenset({_S.VALIDATING, _S.QUEUED, _S.STARTING, _S.RUNNING, _S.RECOVERING, _S.RESUMING}),
        _S.PAUSING,
    ),
    Verb.RESUME: (frozenset({_S.PAUSED}), _S.RESUMING),
    Verb.RETRY: (frozenset({_S.FAILED, _S.CANCELLED}), _S.VALIDATING),
    Verb.SET_PRIORITY: (_LIVE - {_S.CANCELLING}, None),
}


def may_move(source: JobState, target: JobState) -> bool:
    """Whether a job in `source` may become `target`. Staying where it is is always legal."""
    return source == target or target in MOVES[source]


def refuse_verb(verb: Verb, state: JobState) -> str | None:
    """Return why `verb` can't be asked of a job in `state`, as a sentence, or None where it can."""
    allowed, _ = VERBS[verb]
    if state in allowed:
        return None
    names = ", ".join(sorted(allowed))
    word = verb.value.replace("_", " ")
    return f"can't {word} a job that is {state.value}; possible while it is {names}"

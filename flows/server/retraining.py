"""The flow `retrain`: it brings the pipeline of dvc.yaml up to date.

On request the candidate is then put in use, and all of it is published. A candidate that is rejected, or that is
undecided and waits for a person, fails the run, after its artifacts are posted.
"""

import time
from contextlib import closing
from typing import Any, Literal

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.in_use.log import read_log, taken_back
from flows.in_use.place import digests, settle_unfinished
from flows.in_use.promotion import is_in_use
from flows.in_use.promotion import promote as promote_candidate
from flows.in_use.verdict import GATE, REJECTED, UNDECIDED, may_promote, refusal_of_gate
from flows.server.approval import AskedError, ask, check_approvable, is_resumed
from flows.server.artifacts import show
from flows.server.narration import BEGINNING, name_run, narrate
from flows.server.plan import check_planned
from flows.server.secrets import Secrets, take_secrets
from flows.server.worth import NotWorthItError, check_worth
from flows.sharing.publish import Publish, check_dvc_remote, check_publishable, commit_run, publish
from flows.sharing.pulls import pull_health, pull_missing, pull_outcome, pull_parts
from flows.workspace import paths
from flows.workspace.batches import listed
from flows.workspace.dvc import DvcError, Lines, lines_of
from flows.workspace.git import BY_GATE
from flows.workspace.hold import only_writer
from flows.workspace.parameters import check_parameters
from flows.workspace.redaction import in_a_line
from flows.workspace.turns import NotNeededError, in_turn
from tasks.machine.failures import Failure, MissingDataError
from tasks.machine.files import write_whole

Promote = Literal["never", "accepted", "approved"]
Train = Literal["always", "when_worth_it"]
Verdict = dict[str, Any]


@flow(name="retrain")
def retrain(
    promote: Promote = "never",
    publish_to: Publish = "no",
    approval_hours: float = 24.0,
    wait_minutes: float = 0.0,
    pull: bool = False,
    secrets: Secrets = {},  # noqa: B006  nobody changes it
    train: Train = "always",
) -> State[Any]:
    """Bring every stage of dvc.yaml up to date, and report the result.

    Args:
        promote: when a candidate is put in use: never; as soon as it is `accepted`, or undecided where
            regression.promotes allows it; or once a person `approved` it in Prefect, who is asked about an undecided
            one that waits, too.
        publish_to: where data and models go to the DVC remote, and then the commit to git's remote: `no`; to a `branch`
            of the candidate's own, for a pull request; or to the branch that is checked out, `main` or another.
        approval_hours: how long the run waits, suspended, for a person.
        wait_minutes: how long it waits for another run that holds this workspace. If one waits already, this one ends:
            the other will see everything that this one would.
        pull: this is a clone without data; the inputs of the stages come from the DVC remote.
        secrets: variables of the environment, each with the name of the Secret block in Prefect that has its value.
        train: always; or `when_worth_it`: where new batches are neither large enough (audit.min_new) nor different
            enough (audit.min_drift), the run ends after the audit, and they wait for the next ones.
    """
    logger = get_run_logger()
    try:
        check_planned(retrain)
        take_secrets(secrets)
        if promote == "approved":
            check_approvable()
        check_parameters()
        check_publishable(publish_to)
        is_answered = is_resumed()  # no other run has the answer that a person gave to this one
        purpose = None if is_answered else f"retrain-{promote}-{publish_to}"
        with in_turn(purpose, wait_seconds=60 * wait_minutes, log=logger.info):
            verdict = reproduce(
                is_answered=is_answered, is_published=publish_to != "no", is_partial=pull,
                is_worth_asked=train == "when_worth_it",
            )  # fmt: skip
            name_run(f"{listed()[-1]}: {verdict['verdict']}" if verdict else "nothing to do")
            try:
                result = decide(verdict, promote=promote, hours=approval_hours, is_partial=pull)
                UNDECIDED.unlink(missing_ok=True)
            except AskedError as other:
                result = f"the candidate is {verdict['verdict'] if verdict else 'accepted'}, and {other}"
    except (NotNeededError, NotWorthItError) as other:
        return Completed(message=in_a_line(other))
    except (OSError, ValueError, DvcError) as error:
        return Failed(message=in_a_line(error))
    if publish_to != "no":
        try:
            with only_writer(wait_seconds=60 * wait_minutes, log=logger.info):
                publish(publish_to)
        except (OSError, ValueError, DvcError) as error:
            return Failed(
                message=f"{result}; not published: {in_a_line(error)}; all of it is here, and the next run publishes it"
            )
    is_refused = verdict is not None and verdict["verdict"] != "accepted" and not may_promote(verdict)
    if is_refused and not is_in_use(digests(paths.candidate())):  # a person may have approved it
        return Failed(message=result)
    logger.info(result)
    return Completed(message=result)


def reproduce(
    *, is_answered: bool, is_published: bool, is_partial: bool, is_worth_asked: bool = False
) -> Verdict | None:
    """Bring the pipeline up to date, and return the verdict on the candidate; None if there was nothing to do.

    With `is_worth_asked` new batches are audited first, and trained on where that is worth it.

    Raises:
        DvcError: a stage failed.
        NotWorthItError: the new batches are not worth a training.
    """
    log = get_run_logger().info
    start = time.monotonic()
    settle_unfinished(log)
    if is_partial:
        check_dvc_remote()
        pull_parts(log)
    if is_worth_asked and not is_answered and not UNDECIDED.exists():
        ran, failed, _ = bring_up_to_date("audit", is_partial=is_partial)
        if failed:
            raise DvcError(f"{ran[-1]}: {failed.message}")
        if is_partial:
            pull_health(log)
        if reason := check_worth():
            log(f"training is worth it: {reason}")
    ran, failed, failures = bring_up_to_date(is_partial=is_partial)
    if failed and not failures and ran[-1] == GATE and refusal_of_gate():
        # the report has the reason, so it is written for such a candidate too
        bring_up_to_date("--ignore-errors", "report", is_partial=is_partial)
    elif failed:
        raise DvcError(f"{ran[-1]}: {failed.message}")
    if not ran and not is_answered and not UNDECIDED.exists():
        return None
    if is_partial:
        pull_outcome(log)
    verdict = show()
    if is_published:
        commit_run(log=log, seconds=time.monotonic() - start)
    return verdict


def bring_up_to_date(*arguments: str, is_partial: bool) -> tuple[list[str], State[Any] | None, list[Failure]]:
    """Run `dvc repro`, and return the result of `narrate`, and the failures that stages reported.

    In a clone without data, the data that a stage misses are pulled, and the run starts again.
    """
    log = get_run_logger().info
    options = ["--pull", "--allow-missing"] if is_partial else []
    while True:
        failures: list[Failure] = []  # with --ignore-errors DVC hides them
        ran, failed = narrate(noted(lines_of("repro", *options, *arguments, failures=failures)), log=log)
        missing = [failure.pointer for failure in failures if failure.pointer]
        if not (is_partial and any(pull_missing(pointer, log) for pointer in missing)):
            return ran, failed, failures


def noted(lines: Lines) -> Lines:
    """Yield the lines unchanged. When the gate starts, the candidate is noted as undecided.

    So the run after a killed one decides, too, by the files of the gate.
    """
    with closing(lines):
        for line in lines:
            if (beginning := BEGINNING.match(line)) and beginning["stage"] == GATE:
                write_whole(UNDECIDED, b"")
            yield line


def decide(verdict: Verdict | None, *, promote: Promote, hours: float, is_partial: bool) -> str:
    """Put the candidate in use if that is wanted and allowed, and return the result of the run, in words.

    Raises:
        AskedError: another run asks a person, and decides.
    """
    if verdict is None:
        return "nothing to do"
    candidate, waits, judged = verdict["candidate"], not may_promote(verdict), f"the candidate is {verdict['verdict']}"
    if verdict["verdict"] == "rejected":
        broken = [rule["text"] for rule in verdict["rules"] if not rule["passed"]] + verdict["problems"]
        return f"{REJECTED}: {'; '.join(broken)}; see {paths.report()}"
    if waits and promote != "approved":
        doubts = verdict.get("doubts", ["regression.promotes asks a person"])
        return f"{judged} and waits for a person: {'; '.join(doubts)}; see {paths.report()}"
    if promote == "never":
        return judged
    if promote == "accepted" and (rollback := taken_back(read_log(), candidate)):
        reason = rollback["why"] or "no reason given"
        return (
            f"{judged}, and not put in use: v{rollback['version']} rolled it back ({reason}), "
            "so that only a person can put it in use, by `python -m flows.promote`"
        )
    if is_in_use(digests(paths.candidate())):
        return f"{judged}, and in use already"
    if promote == "accepted":
        return f"{judged}, and in use: {put_in_use(BY_GATE, is_partial=is_partial)}"
    answer = ask(verdict, hours=hours)
    if not answer.approve:
        return f"{judged}, and was not approved: {answer.why or 'no reason given'}"
    why = f"approved by {answer.approved_by or 'somebody'}: {answer.why or 'no reason given'}"
    return f"{judged}, approved, and in use: {put_in_use(why, is_partial=is_partial, force=waits)}"


@task(task_run_name="promote", cache_policy=NO_CACHE, persist_result=False)
def put_in_use(why: str, *, is_partial: bool, force: bool = False) -> str:
    """Put the candidate in use, and return the SHA-256 of its weights. With `force` a person decided, not the gate."""
    log = get_run_logger().info
    while True:
        try:
            return promote_candidate(log, why=why, force=force)
        except MissingDataError as error:  # the check in a fresh process reads samples
            if not (is_partial and pull_missing(error.pointer, log)):
                raise

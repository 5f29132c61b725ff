"""In what order the stages of a run run: each when what it needs has ended, branches side by side.

A run whose stages follow one another is one task, its caller's; only branches
that run side by side are tasks of their own.
"""

from __future__ import annotations

import asyncio

from atomesh.core.errors import AtomeshError
from atomesh.pipelines.plan import Step
from atomesh.pipelines.record import StageStatus
from atomesh.pipelines.running import Run
from atomesh.pipelines.stage import Stages


async def run_stages(stages: Stages, run: Run) -> None:
    """Runs every stage, each when what it needs has ended; where one fails for good, the others are cancelled.

    Raises:
        AtomeshError: the failure of a stage, after those that ended before it were undone, where that was asked for.
    """
    try:
        if run.plan.sequential:
            for step in run.plan.steps:
                await stages.run(run, step)
        else:
            await _branches(stages, run)
    except AtomeshError as error:
        failed = next((s for s in run.plan.steps if run.stages[s.id].status is StageStatus.FAILED), None)
        if failed is not None and failed.spec.on_error == "compensate":
            if failed.undo is not None and error.executed is not False:
                run.stages[failed.id].reason = "it may have run, and is not undone: nobody knows how far it came"
            for step in reversed(run.finished):
                await stages.undo(run, step)
        raise


async def _branches(stages: Stages, run: Run) -> None:
    waiting = {step.id: set(step.needs) for step in run.plan.steps}
    steps = {step.id: step for step in run.plan.steps}
    running: dict[asyncio.Task[None], Step] = {}
    try:
        while waiting or running:
            ready = [steps[name] for name, needs in waiting.items() if not needs]
            for step in ready:
                del waiting[step.id]
            if len(ready) == 1 and not running:
                await stages.run(run, ready[0])
                ended = ready
            else:
                for step in ready:
                    task = asyncio.create_task(stages.run(run, step), name=f"stage {step.id}")
                    running[task] = step
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                done = [task for task in running if task.done()]  # in order, so that a run ends the same each time
                ended = [running.pop(task) for task in done]
                for task in done:
                    task.result()
            for needs in waiting.values():
                needs.difference_update(step.id for step in ended)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

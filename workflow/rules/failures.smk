"""What a call leaves behind in which jobs failed."""


def write_incomplete_tables():
    """Tables of the runs that are there, after a call in which jobs failed.

    They name the runs that failed or needed something that did, and are left marked as
    incomplete, so that the next call writes them anew.
    """
    dag, unmade = workflow.dag, list(workflow.dag.needrun_jobs())
    groups = [job for job in workflow.scheduler.failed if job.is_group()]
    failed = workflow.scheduler.failed.union(*(group.jobs for group in groups))
    failed = failed.intersection(unmade)
    tables = [job for job in unmade if job.rule.name == "tables"]
    if not failed or not tables or not failed.isdisjoint(tables):
        return
    from promptad.tables import planned_options, write_tables

    missing = {str(file) for job in unmade for file in job.output}
    lost = {str(file) for job in dag.bfs(dag.depending, *failed) for file in job.output}
    write_tables(
        results("tables"),
        {path: planned_options(config, path) for path in RUN_OF if path not in missing},
        literature=LITERATURE,
        failed=[run for path, run in RUN_OF.items() if path in lost],
        logs=sorted(str(file) for job in failed for file in job.log),
        **TABLE_OPTIONS,
    )
    workflow.persistence.started(tables[0])


onerror:
    try:
        write_incomplete_tables()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)

# An `include:` would leave the call without a default target.
workflow.include("workflow/Snakefile", overwrite_default_target=True)

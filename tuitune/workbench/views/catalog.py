"""Which class shows which kind of tab; a class is imported when the first tab of its kind opens."""

from importlib import import_module
from pathlib import Path

from tuitune.workbench.views.view import View

KINDS: dict[str, str] = {
    "recipe": "tuitune.workbench.views.recipe_editor:RecipeEditor",
    "tokens": "tuitune.workbench.views.token_view:TokenView",
    "template": "tuitune.workbench.views.template_view:TemplateView",
    "alignment": "tuitune.workbench.views.alignment_view:AlignmentView",
    "plan": "tuitune.workbench.views.plan_view:PlanView",
    "run": "tuitune.workbench.views.run_dashboard:RunDashboard",
    "runs": "tuitune.workbench.views.runs_table:RunsTable",
    "compare": "tuitune.workbench.views.compare_view:CompareView",
    "chat": "tuitune.workbench.views.chat_view:ChatView",
    "job": "tuitune.workbench.views.job_view:JobView",
    "data": "tuitune.workbench.views.dataset_view:DatasetView",
    "text": "tuitune.workbench.views.text_preview:TextPreview",
}


def view_class(kind: str) -> type[View]:
    """The class for a kind; KeyError for a kind that does not exist."""
    module, _, name = KINDS[kind].partition(":")
    found: type[View] = getattr(import_module(module), name)
    return found


def make_view(kind: str, path: Path) -> View:
    """A new view of a file, run or folder."""
    return view_class(kind)(path)

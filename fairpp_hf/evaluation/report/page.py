"""One self-contained page from an evaluated folder: no network, no font or script from elsewhere."""

import base64
import hashlib
import re
from importlib.resources import files
from pathlib import Path
from string import Template

from fairpp_hf.evaluation.report.chart_sections import (
    agreeing_section,
    asking_section,
    distance_section,
    map_section,
    radar_section,
    shares_section,
)
from fairpp_hf.evaluation.report.charts import Labeller
from fairpp_hf.evaluation.report.folder import Evaluated, read_evaluated
from fairpp_hf.evaluation.report.markup import Section, name, text
from fairpp_hf.evaluation.report.method_section import NOTICE, method_section
from fairpp_hf.evaluation.report.questions_section import questions_section
from fairpp_hf.evaluation.report.results_section import results_section

PAGE = "report.html"
PICTURES = "report"


def write_report(folder: Path) -> list[Path]:
    """Write report.html and the pictures of its charts, report/*.png, into an evaluated folder.

    Args:
        folder: `--out` of `fairpp evaluate`, in which `fairpp position` may have added positions.json.

    Returns:
        Paths of the page and of the pictures. Those of an earlier report in the folder are replaced.

    Raises:
        FileNotFoundError: the folder has not been evaluated.
        ValueError: one of its files is damaged, of another format, or does not go with the others.
    """
    evaluated = read_evaluated(folder)
    sections = sections_of(evaluated)
    page, pictures = folder / PAGE, folder / PICTURES
    before = re.findall(r'<figure id="figure-([a-z0-9-]+)"', page.read_text("utf-8")) if page.is_file() else []
    for key in before:
        (pictures / f"{key}.png").unlink(missing_ok=True)
    pictures.mkdir(exist_ok=True)
    written = []
    for chart in (chart for section in sections for chart in section.charts):
        written.append(pictures / f"{chart.key}.png")
        written[-1].write_bytes(chart.drawing.png)
    page.write_text(render(evaluated, sections), encoding="utf-8")
    return [page, *written]


def sections_of(evaluated: Evaluated) -> list[Section]:
    """The sections, in their order, with their charts drawn."""
    labels = Labeller(evaluated)
    return [
        results_section(evaluated, labels),
        map_section(evaluated),
        radar_section(evaluated, labels),
        distance_section(evaluated, labels),
        agreeing_section(evaluated, labels),
        shares_section(evaluated, labels),
        asking_section(evaluated, labels),
        questions_section(evaluated),
        method_section(evaluated),
    ]


def render(evaluated: Evaluated, sections: list[Section]) -> str:
    """The page as HTML."""
    here = files(__package__)
    script = "\n" + here.joinpath("page.js").read_text("utf-8")
    target = evaluated.name(evaluated.target)
    return Template(here.joinpath("page.html").read_text("utf-8")).substitute(
        title=text(f"Who agrees with {target}?"),
        heading=f"Who agrees with {name(target)}?",
        notice=text(NOTICE),
        navigation="".join(f'<li><a href="#{section.key}">{section.title}</a></li>' for section in sections),
        sections="\n".join(section.html for section in sections),
        style=here.joinpath("page.css").read_text("utf-8"),
        script=script,
        # Nothing but this script may run, whatever a name or a text has been made to hold.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )

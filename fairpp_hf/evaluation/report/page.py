"""One self-contained page from an evaluated folder: no network, no font or script from elsewhere."""

import base64
import hashlib
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template

from tqdm.auto import tqdm

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
from fairpp_hf.evaluation.report.markup import Section, name, place_of, text
from fairpp_hf.evaluation.report.method_section import NOTICE, method_section
from fairpp_hf.evaluation.report.questions_section import questions_section
from fairpp_hf.evaluation.report.results_section import results_section

PAGE = "report.html"
PICTURES = "report"


def write_report(folder: Path, *, progress: bool = True) -> list[Path]:
    """Write report.html and the pictures of its charts, report/*.png, into an evaluated folder.

    Args:
        folder: `--out` of `fairpp evaluate`, in which `fairpp position` may have added positions.json.
        progress: whether to show a bar, picture by picture.

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
    written, drawings = [], {}
    charts = [chart for section in sections for chart in section.charts]
    for chart in tqdm(charts, desc="Drawing", unit="picture", disable=not progress):
        drawing = chart.draw()
        written.append(pictures / f"{chart.key}.png")
        written[-1].write_bytes(drawing.png)
        drawings[place_of(chart)] = drawing.svg
    page.write_text(render(evaluated, sections, drawings), encoding="utf-8")
    return [page, *written]


def sections_of(evaluated: Evaluated) -> list[Section]:
    """The sections, in their order, with a place for the drawing of each chart."""
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


def render(evaluated: Evaluated, sections: list[Section], drawings: Mapping[str, str]) -> str:
    """The page as HTML.

    Args:
        evaluated: the folder.
        sections: of the page.
        drawings: what `place_of` gives for each chart, to its SVG.
    """
    here = files(__package__)
    script = "\n" + here.joinpath("page.js").read_text("utf-8")
    target = evaluated.name(evaluated.target)
    return Template(here.joinpath("page.html").read_text("utf-8")).substitute(
        title=text(f"Who agrees with {target}?"),
        heading=f"Who agrees with {name(target)}?",
        notice=text(NOTICE),
        navigation="".join(f'<li><a href="#{section.key}">{section.title}</a></li>' for section in sections),
        sections=re.sub(
            "<!-- .*? -->", lambda place: drawings[place[0]], "\n".join(section.html for section in sections)
        ),
        style=here.joinpath("page.css").read_text("utf-8"),
        script=script,
        # Nothing but this script may run, whatever a name or a text has been made to hold.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )

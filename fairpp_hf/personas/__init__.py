"""Persona sets: who answers, as data files with survey shares, sources and portraits."""

from fairpp_hf.personas.persona_set import (
    DEFAULT_PERSONA_SET,
    PERSONA_SETS,
    ChoiceParameters,
    Parameter,
    Persona,
    PersonaSet,
    load_personas,
)

__all__ = [
    "DEFAULT_PERSONA_SET",
    "PERSONA_SETS",
    "ChoiceParameters",
    "Parameter",
    "Persona",
    "PersonaSet",
    "load_personas",
]

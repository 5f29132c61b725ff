"""Abbreviations with a full stop, by language, as far as they decide where sentences end.

Punkt (Kiss and Strunk, 2006) learns such lists from a corpus; these are
written down. Left out on purpose is what is a common word as well (English
"sun", "sat", "mar", "art"): a missed abbreviation cuts one sentence in two, a
word taken for one glues two sentences together.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Abbreviations(NamedTuple):
    """A language's abbreviations without their last full stop, in lower case."""

    leading: frozenset[str]
    """Something always follows: titles, "e.g.", "cf."."""
    numbering: frozenset[str]
    """A number follows; without one it is a word: "no. 5", "fig. 2"."""
    closing: frozenset[str]
    """A sentence may end with it: "etc.", "Inc.", "a.m."; what follows decides."""


def _listed(leading: str, numbering: str, closing: str) -> Abbreviations:
    return Abbreviations(frozenset(leading.split()), frozenset(numbering.split()), frozenset(closing.split()))


_ENGLISH: Final = _listed(
    "adm approx asst brig capt cf cmdr col comdr dr drs e.g eg esp gen gov hon i.e ie lt maj messrs mr mrs ms mt mx msgr "
    "pres prof rev rep sen sgt sr st supt viz vs",
    "art bk ch chap eq eqs fig figs no nos p para pp pt sec secs sect tab v vol vols",
    "a.m p.m al apr assn aug ave bldg blvd bros co corp dec dept dist ed eds ext etc feb ft inc intl jan jr jul jun "
    "ltd mfg misc nov oct plc rd resp sep sept tel univ ph.d",
)

ABBREVIATIONS: Final[dict[str, Abbreviations]] = {
    "en": _ENGLISH,
    "de": _listed(
        "ca dipl dr evtl fr frl ggf hr hrsg ing inkl bzgl bzw insb prof sog st tel u.a vgl z.b d.h i.d.r z.t zzgl",
        "abb abs art aufl bd kap nr s str tab ziff",
        "bsp co etc jh jhd mio mrd min std usw usf u.v.m dez feb jan okt nov sept",
    ),
    "fr": _listed(
        "dr env cf m me mgr mlle mlles mm mme mmes p.ex pr prof st ste",
        "art chap éd fig n no nos p pp vol",
        "av boul cie etc janv févr juil oct nov déc inc ltée",
    ),
    "es": _listed(
        "d da dr dra drs excmo gral ing lic p.ej prof profa sr sra sras sres srta sta sto ud uds vd",
        "art cap fig no núm p pág págs pp vol",
        "a.c d.c aprox av avda cía ee.uu etc s.a",
    ),
    "it": _listed(
        "arch avv cfr dott dott.ssa dr egr gent geom ing on p.es prof prof.ssa rag sig sig.na sig.ra sigg spett",
        "art cap fig n nn p pag pagg pp vol",
        "a.c d.c ca ecc s.p.a s.r.l soc",
    ),
    "nl": _listed(
        "bijv bv ca dhr dr drs d.w.z evt ing ir i.p.v jhr mevr mr m.b.t m.i.v n.a.v o.a prof resp t.a.v z.g",
        "afb art blz fig hfst nr p",
        "a.u.b enz etc jl m.a.w v.chr n.chr",
    ),
    "pt": _listed(
        "d dr dra eng exmo p.ex prof profa sr sra srs srta",
        "art cap fig n no núm p pág págs pp vol",
        "a.c d.c aprox av cia etc ltda s.a",
    ),
    "sv": _listed("bl.a dr d.v.s fr.o.m hr jfr kap prof s.k t.ex t.o.m", "fig nr s st", "etc kl m.fl m.m osv p.g.a"),
    "da": _listed("bl.a ca dr d.v.s fhv fx hr jf kap prof skt f.eks", "fig nr s st", "etc kl m.fl m.m mio mia osv pga"),
    "no": _listed("bl.a ca dr d.v.s f.eks fhv hr jf kap prof s.k", "fig nr s st", "etc kl m.fl m.m mill mrd osv pga"),
    "ru": _listed(
        "акад гр д-р и.о им напр проф св см ср т.е т.к ул просп",
        "гл п рис с стр табл",
        "г гг в вв др млн млрд н.э пр руб т.д т.п тыс",
    ),
}

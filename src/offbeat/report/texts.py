"""What the page says beside its figures: headings, what each shows, and how every number was made."""

from __future__ import annotations

from offbeat.report.paper import paper_curve
from offbeat.report.results import SMOOTHING_S, TIMING_S
from offbeat.report.statistics import COVERAGE, DRAWS
from offbeat.report.subject import Subject
from offbeat.report.words import listed

HEADINGS = {
    "curves": "How fast each setting learns",
    "returns": "What each setting returns",
    "changes": "What each change is worth",
    "pairs": "The comparisons, curve against curve",
    "improvement": "How often a run of one setting beats a run of another",
    "response": "How old the picture is when the command leaves",
    "lateness": "How late each cycle ended",
    "flow": "What happens when",
    "stages": "What each stage costs",
    "updates": "What the robot's time is turned into",
    "totals": "What the robot's time is turned into",
}

TEXTS = {
    "returns": (
        "Filled: mean return over the last tenth of the episodes; the upright strokes are the single runs. Hollow: "
        "mean over the whole run, warm-up included. Lines are 95% intervals over runs; n is the number of runs."
    ),
    "changes": (
        "Mean return of the new setting less that of the old one, with its 95% interval over runs. Blue: the new "
        "setting returns more at the end; orange: less; grey: the interval holds zero, so the two cannot be told "
        "apart with this many runs."
    ),
    "improvement": (
        "The probability that a run of the row's setting ends higher than a run of the column's, over all pairs of "
        "runs, ties half. Blue above a half, orange below. Bold: the 95% interval over runs leaves out one half. A "
        "probability of 0 or 1 has no width as an interval: it says that these runs do not overlap, not that no "
        "run ever will."
    ),
    "response": (
        "The response time of every cycle: from the start of an observation to the command that answers it. In a "
        "sequential loop sampling and updating stand between seeing and acting, so the arm answers a world that "
        "has moved on (its few quick cycles are from before learning began). Beside the loop, or after the "
        "command, they add nothing, and what is left is the time the policy itself needs."
    ),
    "lateness": (
        "Every cycle has a deadline, at which the arm is looked at again. The interaction sleeps until just before it "
        "and then spins, so on a machine at rest a cycle ends within microseconds of it. What lies further right "
        "is the system letting other work run first, or a cycle whose own work took too long."
    ),
    "flow": (
        "A few cycles of each run as they were recorded. The thick line on top reaches from an observation to the "
        "command that answers it; below stand the stages that fill the time. Sequentially, each stage waits for "
        "the one before it and the cycle must be long enough for all of them; asynchronously, three lanes run "
        "side by side and only acting stands between seeing and doing."
    ),
    "stages": (
        "Mean time of each stage, laid end to end; the thick mark is the action cycle. A sequential loop only "
        "keeps a cycle that is longer than its whole bar. An asynchronous one may choose a shorter cycle, because "
        "nothing but acting and storing has to fit into it. n: how often the most frequent stage was timed."
    ),
    "updates": (
        "Gradient updates and environment steps against training time. A shorter cycle gives more steps in the "
        "same minutes; asynchronous updates take place beside acting, and during resets, and so can keep up with "
        "them."
    ),
    "totals": (
        "Gradient updates and environment steps of a whole run, mean over the runs that logged them (n). A shorter "
        "cycle gives more steps in the same minutes; asynchronous updates take place beside acting, and during "
        "resets."
    ),
}


def curves_text(subject: Subject, reference: bool) -> str:
    """What the learning curves show depends on how many seeds were run and whether the paper has the setting."""
    text = (
        "Return per episode against training time, resets left out. A line averages over "
        f"{SMOOTHING_S:g} s of training around each moment"
    )
    text += "; dots are single episodes" if any(r.runs == 1 for r in subject.results) else ""
    if subject.replicated:
        text += "; it is the mean over runs, and the band its 95% interval"
    if subject.groups:
        text += (
            ". A shorter cycle takes more actions in the same minutes, and acting beside learning answers a fresher "
            "image"
        )
    text += "."
    if reference and any(r.reference and paper_curve(r.reference) for r in subject.results):
        text += (
            " Grey, for scale, is the beginning of the paper's 72 minutes on a real robot: 25 runs a setting, larger "
            "images and networks, and 200 seconds before the first update."
        )
    return text


def pairs_text(subject: Subject, reference: bool) -> str:
    """What the panels of comparisons show; the paper's curves stand in them where it has the setting."""
    text = (
        "Coloured: the new setting; in the colour of the text: the one it is compared with. Mean over runs, smoothed "
        "as above, with 95% bands; above each panel the difference of the last tenths with its interval, and the runs "
        "of new and old."
    )
    if reference and any(r.reference and paper_curve(r.reference) for r in subject.results):
        text += " Grey, broken: the real robot, where a setting repeats one of the paper's."
    return text


def methods(threshold: float) -> list[list[str]]:
    """How every number was made, with sources; paragraphs of sentences."""
    tried = listed([f"{m} ({d}) times in a hundred with {n} runs" for n, (m, d) in COVERAGE.items()])
    return [
        [
            "The unit is the run: n is a number of runs with different seeds, never of episodes or steps.",
            "Final is the mean return over the last tenth of a run's episodes (the paper: 72 of 720), whole run "
            "over all of them.",
        ],
        [
            f"Every interval is made in one way: the runs of each setting are drawn again, with replacement, {DRAWS:,} "
            "times (the bootstrap; Efron and Tibshirani 1993), independently of the other settings, and the 2.5% and "
            "97.5% quantiles of the resampled number are taken, moved outward to make up for the narrowness of few "
            "runs (the expanded percentile interval; Hesterberg 2015).",
            "With 25 runs such an interval of a mean agrees with Student's t. Tried on normally distributed runs, the "
            f"interval of a mean (of a difference) held the truth {tried} a setting.",
            "The draws come from a stream named after the setting, so the same runs give the same numbers.",
        ],
        [
            "Two settings are said to be told apart when the interval of the difference of their means does not "
            "hold zero. No correction is made for the number of comparisons.",
            "A share is a difference over the main gap, both resampled together; shares of several changes need "
            "not add up to the whole, for changes can act through each other.",
            "P(X > Y) is the Mann-Whitney statistic over the number of pairs of runs (Agarwal et al. 2021).",
        ],
        [
            f"A setting passes {threshold:g} at the end of the first {TIMING_S:g} s of training whose mean return, "
            f"over all its runs, lies above {threshold:g} (a trailing mean, of which the interval resamples the "
            "runs).",
            f"Curves are smoothed over {SMOOTHING_S:g} s centred on each point, and over less at their ends.",
        ],
    ]

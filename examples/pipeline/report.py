"""The pipeline of report.yaml, built in Python: one model is behind both."""

from atomesh.pipelines import Pipeline, cel

DOCUMENTS = "$input.documents"


def text(operation: str, **options: int) -> dict[str, object]:
    """What the text agent is given of each document."""
    return {"content": "$item", "operation": operation, **({"options": options} if options else {})}


REPORT = (
    Pipeline("report", input_fields={"documents": "repeated string"})
    .stage("summary", "text-processor", map=DOCUMENTS, input=text("summarize", max_sentences=1))
    .stage(
        "mood",
        "text-processor",
        after=["summary"],
        map=DOCUMENTS,
        input=text("sentiment"),
        on_error="skip",
        default={"result": "unknown"},
    )
    .stage("keywords", "text-processor", after=["summary"], map=DOCUMENTS, input=text("extract_keywords", top_k=3))
    .output(
        summaries=cel("summary.map(s, s.result)"),
        moods=cel("mood.map(m, m.result)"),
        keywords=cel("keywords.map(k, k.result)"),
        positive=cel("size(mood.filter(m, m.result == 'positive'))"),
        negative=cel("size(mood.filter(m, m.result == 'negative'))"),
    )
)

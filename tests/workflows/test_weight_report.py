"""`specialm weights --report`: the page and its numbers, of a text of one's own and of domains."""

import json
import math

import conftest
import numpy as np
import pytest
from page_reader import Page, check_accessible, check_alone

from specialm import cli
from specialm.clustering import clusters, encoders
from specialm.reports import charts
from specialm.workflows import topics, weight_report


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    conftest.write_docstrings(root, generic=60, linalg=40)
    (root / "config.py").write_text(conftest.BANK_CONFIG.format(root=root))
    return root


@pytest.fixture
def weigh(project, capsys):
    """Runs the command: (exit status, output, errors)."""

    def run(*argv):
        status = cli.main(
            [
                "weights",
                f"--config={project / 'config.py'}",
                f"--workdir={project / 'run'}",
                "--config.clustering.k=6",
                *argv,
            ]
        )
        return status, *capsys.readouterr()

    return run


def test_a_report_of_a_text_of_ones_own(project, notes, weigh):
    all_of_it = "--config.data.specialist_tokens=0"
    status, text, _ = weigh(f"--source={notes}", "--name=mine", all_of_it, "--report")
    assert status == 0 and text.rstrip().endswith(str(project / "run" / "weights.html"))
    html = (project / "run" / "weights.html").read_text()
    check_alone(html)
    check_accessible(html)
    record = json.loads((project / "run" / "weights.json").read_text())
    assert list(record["weights"]) == ["mine"]
    facts = record["weights"]["mine"]
    shares = np.array(facts["specialist_histogram"])
    assert shares.sum() == pytest.approx(1) and len(shares) == 6
    error = facts["sampling_error"]
    assert error["documents"] <= 30 and 0 < error["distance"] < error["distance_high"] < 1
    # What training draws: all planned windows, of the mean length of each cluster's.
    planned, generic = facts["planned_windows"], facts["generic_windows"]
    rates, tokens = np.array(facts["repetitions"]), np.array(facts["cluster_tokens"])
    assert (rates * np.array(facts["generic_histogram"])).sum() * generic == pytest.approx(planned)
    assert facts["drawn_tokens"] == pytest.approx(rates @ tokens)
    rounding = 1 + 1e-9  # sums over clusters in other orders
    assert facts["unique_tokens"] <= facts["worth_tokens"] * rounding
    assert facts["worth_tokens"] <= facts["drawn_tokens"] * rounding
    top = facts["top_clusters"]
    assert [c["specialist_probability"] for c in top] == sorted(shares[shares > 0])[::-1]
    page = Page(html)
    rows = next(t["rows"] for t in page.tables if t["caption"].startswith("Clusters"))
    assert [row[0] for row in rows[1:]] == [str(cluster["cluster"]) for cluster in top]
    assert [row[1] for row in rows[1:]] == [", ".join(cluster["words"]) for cluster in top]


def test_what_is_far_is_measured_from_the_centres(project, weigh, monkeypatch):
    """Distances of the farthest windows against those of all vectors, by hand."""
    seen = {}
    real = clusters.specialist_vectors

    def noted(*arguments):
        seen["vectors"] = real(*arguments)[0]
        return real(*arguments)

    monkeypatch.setattr(weight_report, "specialist_vectors", noted)
    monkeypatch.setattr(charts, "on_page", lambda chart: (["<svg/>"] * len(chart.panels), []))
    page = project / "linalg.html"
    status, text, _ = weigh(f"--report={page}", "--json")
    assert status == 0 and page.exists()
    far = json.loads(text)["linalg"]["far"]
    (centroids,) = (project / "run" / "clusters").glob("generic-*/centroids.npy")
    x_NxD, c_KxD = np.asarray(seen["vectors"], float), np.load(centroids).astype(float)
    nearest_N = np.sqrt(((x_NxD[:, None] - c_KxD) ** 2).sum(axis=-1)).min(axis=1)
    wanted = np.sort(nearest_N)[::-1][: len(far["windows"])]
    np.testing.assert_allclose([w["distance"] for w in far["windows"]], wanted, rtol=1e-4)
    assert far["share"] == pytest.approx((nearest_N > far["limit"]).mean(), abs=1e-9)


def test_the_map_keeps_what_two_directions_can():
    """Points in a plane of five dimensions: their distances are those on the map."""
    rng = np.random.default_rng(1)
    flat_Kx2, axes = rng.normal(size=(7, 2)), np.linalg.qr(rng.normal(size=(5, 2)))[0]
    found = weight_report._map(flat_Kx2 @ axes.T + 3, rng.dirichlet(np.ones(7)))
    assert found["explained"] == pytest.approx(1)
    made_Kx2 = np.stack([found["x"], found["y"]], axis=1)

    def distances(x):
        return np.linalg.norm(x[:, None] - x, axis=-1)

    np.testing.assert_allclose(distances(made_Kx2), distances(flat_Kx2), atol=1e-9)


def test_without_a_report_nothing_is_written(project, notes, weigh):
    before = set(project.rglob("*.html"))
    status, text, _ = weigh(f"--source={notes}", "--name=mine")
    assert status == 0 and text.startswith("mine: ")
    assert set(project.rglob("*.html")) == before


def test_one_document_does_not_say_how_sure_it_is(project, notes, weigh, monkeypatch):
    monkeypatch.setattr(charts, "on_page", lambda chart: (["<svg/>"] * len(chart.panels), []))
    page = project / "one.html"
    little = "--config.data.specialist_tokens=1"
    status, text, _ = weigh(f"--source={notes}", "--name=mine", little, f"--report={page}")
    assert status == 0 and "mine: one document alone does not say how exactly" in text
    assert "from one document alone" in page.read_text()


def test_topics_are_the_windows_nearest_to_them(project, weigh):
    """Their clusters against a brute force over all embeddings."""
    status, text, _ = weigh("--topics=matrix of  numbers; random sample", "--json")
    assert status == 0
    facts = json.loads(text)
    (stage,) = (project / "run" / "embeddings").glob("generic-*")
    (fitted,) = (project / "run").glob("encoder-*/encoder.npz")
    (clustered,) = (project / "run" / "clusters").glob("generic-*/clusters.npy")
    encoder = encoders.make_encoder("tfidf_svd", fitted)
    topic_QxD = encoder.encode(["matrix of numbers", "random sample"], progress=False)
    generic_NxD, cluster_N = np.load(stage / "embeddings.npy"), np.load(clustered)
    count = math.ceil(topics.SHARE * len(generic_NxD))
    found = []
    for topic_D in topic_QxD.astype(float):
        distance_N = ((generic_NxD.astype(float) - topic_D) ** 2).sum(axis=1)
        found += list(cluster_N[np.argsort(distance_N)[:count]])
    np.testing.assert_allclose(
        facts["specialist_histogram"], np.bincount(found, minlength=6) / len(found), atol=0.02
    )
    assert facts["domain"] == "matrix of numbers; random sample"
    assert facts["sampling_error"]["documents"] == 2


def test_one_topic_says_that_it_is_not_known_how_sure_it_is(weigh):
    status, text, _ = weigh("--topics=matrix")
    assert status == 0 and "\nmatrix: " in text
    assert text.rstrip().endswith("one topic alone does not say how exactly its histogram is known")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--topics=matrix; zzyzx"], "none of the words of 'zzyzx' is in the generic text"),
        (["--topics= ;"], "give different topics"),
        (["--topics=a b; a  b"], "give different topics"),
        (["--topics=matrix", "--source=README.md"], "--topics stands alone"),
    ],
)
def test_topics_that_cannot_be_weighed(weigh, options, message):
    status, _, told = weigh(*options)
    assert status == 2 and message in told


@pytest.mark.parametrize("given", ["page.pdf", "folder"])
def test_a_report_that_is_no_page(weigh, given):
    status, _, told = weigh(f"--report={given}")
    assert status == 2 and f"--report={given}: must be a file that ends in .html." in told

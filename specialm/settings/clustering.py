"""Settings of embeddings, clusters and importance weights."""

from specialm.clustering.histograms import RULES
from specialm.common.setting import Setting

CLUSTERING = (
    Setting("clustering.encoder", "minilm", "of windows", choices=("minilm", "tfidf_svd")),
    Setting(
        "clustering.encoder_path",
        "",
        "minilm: a folder with its weights; empty looks in the usual places",
    ),
    Setting(
        "clustering.max_tokens",
        256,
        "minilm: word pieces read of a window, at most",
        least=3,
        most=512,
    ),
    Setting("clustering.dim", 128, "tfidf_svd: dimensions", least=1),
    Setting("clustering.k", 256, "clusters", least=1),
    Setting(
        "clustering.method",
        "full",
        "full or minibatch k-means, or a tree: docs/clustering.md",
        choices=("full", "minibatch", "tree"),
    ),
    Setting("clustering.iterations", 50, "of k-means, at most", least=1),
    Setting(
        "clustering.branching",
        (64, 64),
        "tree: children of a node at each level, instead of k",
        of=int,
        least=1,
        some=True,
    ),
    Setting(
        "clustering.level",
        0,
        "tree: whose nodes are the clusters, 1 for the coarsest; 0 for the leaves",
        least=0,
    ),
    Setting("clustering.sample", 2_000_000, "tree: windows it is trained on, at most", least=1),
    Setting("clustering.seed", 0, "of the clusters", least=0),
    Setting(
        "clustering.histogram",
        "counted",
        "of the specialist text: as counted, or backing off along the tree (docs/methods.md)",
        choices=tuple(RULES),
    ),
    Setting(
        "clustering.pseudo_windows",
        10.0,
        "backoff: windows like the generic text that every node of the tree is given",
        above=0,
    ),
    Setting(
        "clustering.targets",
        (),
        "domains whose histograms are mixed to be aimed at, instead of the domain's own: NAME or "
        "NAME=WEIGHT each",
    ),
    Setting(
        "clustering.smoothing",
        0.0,
        "of the specialist histogram towards the generic one",
        least=0,
        most=1,
    ),
    Setting(
        "clustering.power",
        1.0,
        "importance weights are raised to it: 1 leaves them, 0 is generic",
        least=0,
        most=1,
    ),
    Setting(
        "clustering.max_repetitions",
        8.0,
        "expected draws of a window in all, at most; 0 for no cap (results/README.md has the "
        "choice); auto: chosen for each domain by an n-gram proxy (docs/methods.md)",
        least=0,
        words=("auto",),
    ),
    Setting(
        "clustering.candidates",
        (),
        "values of k (tree: of level) from which is chosen for importance sampling; empty leaves k",
        of=int,
        least=1,
    ),
    Setting(
        "clustering.choose_by",
        "ngrams",
        "of the candidates: that proxy, or the likelihood of held-out specialist documents under "
        "the draws (docs/methods.md)",
        choices=("ngrams", "likelihood"),
    ),
)

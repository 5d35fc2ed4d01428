"""What the page asks of the results: sentences, each with the two methods and the measures that decide it."""

Claims = tuple[tuple[str, str, str, tuple[str, ...]], ...]

CLAIMS: Claims = (
    (
        "**Reweighted DPO beats DPO**, both at the paper's beta of 0.1",
        "paper_tier_dpo",
        "paper_dpo",
        ("question_distance", "marginal_distance", "question_margin", "agreement"),
    ),
    (
        "**Reweighted DPO beats DPO**, both at beta = 1",
        "tier_dpo",
        "dpo",
        ("question_distance", "marginal_distance", "question_margin", "agreement", "agreement_where_apart"),
    ),
    (
        "The paper's two weighted stages beat the same stages without weights",
        "paper_weighted_sft_dpo",
        "paper_sft_dpo",
        ("question_distance", "marginal_distance", "question_margin", "agreement"),
    ),
    (
        "The paper's two weighted stages beat its role-play prompt",
        "paper_weighted_sft_dpo",
        "role_play",
        ("question_distance", "marginal_distance", "agreement"),
    ),
    (
        "The paper's two weighted stages beat plain SFT",
        "paper_weighted_sft_dpo",
        "sft",
        (
            "question_distance",
            "marginal_distance",
            "question_margin",
            "agreement",
            "brier",
            "worst_group_distance",
            "chosen_logprob",
            "position_gap",
        ),
    ),
    ("Weighted SFT beats SFT", "tier_sft", "sft", ("question_distance", "marginal_distance", "agreement")),
    ("DPO at beta = 0.1 beats the model that it starts from", "paper_dpo", "plain", ("question_distance", "agreement")),
    ("DPO at beta = 1 beats DPO at 0.1", "dpo", "paper_dpo", ("question_distance", "marginal_distance", "agreement")),
    ("DPO at beta = 1 beats SFT", "dpo", "sft", ("question_distance", "marginal_distance", "agreement")),
    (
        "Drawing pairs by weight beats multiplying their losses",
        "tier_dpo_sampling",
        "tier_dpo",
        ("question_distance", "agreement"),
    ),
    ("Surprisal weights beat none", "surprisal_dpo", "dpo", ("question_distance", "marginal_distance", "agreement")),
    (
        "Surprisal weights beat tier weights",
        "surprisal_dpo",
        "tier_dpo",
        ("question_distance", "question_margin", "agreement", "agreement_where_apart"),
    ),
    ("Reweighted DPO beats SFT", "tier_dpo", "sft", ("question_distance", "marginal_distance", "agreement")),
    ("Surprisal weights beat SFT", "surprisal_dpo", "sft", ("question_distance", "marginal_distance", "agreement")),
    ("Soft labels beat SFT", "soft_dpo", "sft", ("question_distance", "marginal_distance", "agreement")),
    ("Soft labels beat drawn answers", "soft_dpo", "dpo", ("question_distance", "marginal_distance", "agreement")),
    ("Soft labels beat tier weights", "soft_dpo", "tier_dpo", ("question_distance", "marginal_distance", "agreement")),
    (
        "Soft labels beat surprisal weights",
        "soft_dpo",
        "surprisal_dpo",
        ("question_distance", "marginal_distance", "agreement"),
    ),
    ("Weighted SFT beats the model that it starts from", "tier_sft", "plain", ("question_distance", "agreement")),
    (
        "Soft labels at beta = 1 beat tier weights at 0.1, the configurations' default until now",
        "soft_dpo",
        "paper_tier_dpo",
        ("question_distance", "marginal_distance", "question_margin", "agreement", "position_gap"),
    ),
    ("Group-robust training helps the worst group", "group_dpo", "dpo", ("worst_group_distance",)),
)
"""Of the grid: sentence, method, what it is compared with, and the measures on held-out questions."""

REASONS: Claims = (
    ("Weights beat the same weights shuffled", "tier_dpo", "shuffled_tier_dpo", ("question_distance", "agreement")),
    (
        "... at beta = 0.1",
        "paper_tier_dpo",
        "paper_shuffled_tier_dpo",
        ("question_distance", "marginal_distance", "agreement"),
    ),
    (
        "Shuffled weights beat none at beta = 0.1",
        "paper_shuffled_tier_dpo",
        "paper_dpo",
        ("question_distance", "agreement"),
    ),
    (
        "Weights of the other form beat a question's own",
        "twin_tier_dpo",
        "tier_dpo",
        ("question_distance", "agreement"),
    ),
    ("Weights of the other form beat none", "twin_tier_dpo", "dpo", ("question_distance", "agreement")),
    ("Weights by expected tier beat none", "expected_tier_dpo", "dpo", ("question_distance", "agreement")),
    ("Tiers without their sizes beat none", "tier_beta0_dpo", "dpo", ("question_distance", "agreement")),
    (
        "Weights beat none once labels are soft",
        "tier_soft_dpo",
        "soft_dpo",
        ("question_distance", "agreement", "agreement_where_apart"),
    ),
    (
        "Options in either order beat pole A as A",
        "dpo",
        "written_order_dpo",
        ("position_gap", "question_distance", "agreement"),
    ),
)
"""The same of the variants, three targets."""


CONFIRMED: Claims = (
    (
        "Reweighted DPO beats DPO",
        "tier_dpo",
        "dpo",
        ("question_distance", "marginal_distance", "question_margin", "agreement"),
    ),
    (
        "Soft labels beat drawn answers",
        "soft_dpo",
        "dpo",
        ("question_distance", "marginal_distance", "question_margin", "agreement"),
    ),
    (
        "Soft labels beat tier weights",
        "soft_dpo",
        "tier_dpo",
        ("question_distance", "marginal_distance", "question_margin", "agreement"),
    ),
    ("DPO beats the role-play prompt", "dpo", "role_play", ("question_distance", "marginal_distance", "agreement")),
    (
        "Soft labels beat the role-play prompt",
        "soft_dpo",
        "role_play",
        ("question_distance", "marginal_distance", "agreement"),
    ),
    (
        "The role-play prompt beats the plain model",
        "role_play",
        "plain",
        ("question_distance", "marginal_distance", "agreement"),
    ),
)
"""The same of SmolLM2."""

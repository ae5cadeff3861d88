"""All claims, in their order."""

from claims import accuracy, cost, inside, robustness

CLAIMS = (
    accuracy.claim1,
    accuracy.claim2,
    cost.claim3,
    accuracy.claim4,
    accuracy.claim5,
    accuracy.claim6,
    robustness.claim7,
    robustness.claim8,
    robustness.claim9,
    inside.claim10,
    robustness.claim11,
    inside.claim12,
    inside.claim13,
    cost.claim14,
    inside.claim15,
)


def judged(scope):
    """The Claims of a scope, in their order."""
    return [claim(scope) for claim in CLAIMS]

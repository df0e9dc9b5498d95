"""Gates: bounds that a model's figures must keep. A figure that is missing never passes."""

from steelyard.specs.blocks import Gate


def judge(gates: list[Gate], metrics: dict[str, float], prefix: str) -> list[str]:
    """Return why the gates are not passed, one sentence for each that isn't; none: all passed.

    Args:
        metrics: `<prefix>/<suite>/<metric>` -> figure.
    """
    faults: list[str] = []
    for gate in gates:
        value = metrics.get(f"{prefix}/{gate.metric}")
        if value is None:
            faults.append(f"{gate.metric} was not measured")
        elif gate.min is not None and not value >= gate.min:
            faults.append(f"{gate.metric} is {value:.4g}, below the bound {gate.min:g}")
        elif gate.max is not None and not value <= gate.max:
            faults.append(f"{gate.metric} is {value:.4g}, above the bound {gate.max:g}")
    return faults

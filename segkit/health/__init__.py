"""The health of affinities: figures that show what goes wrong in training, and a verdict in words."""

from segkit.health.agreement import Agreement
from segkit.health.channels import Channel
from segkit.health.figures import HealthFigures, examine
from segkit.health.findings import Finding, verdict
from segkit.health.objects import Objects
from segkit.health.spectrum import Peak

__all__ = ["Agreement", "Channel", "Finding", "HealthFigures", "Objects", "Peak", "examine", "verdict"]

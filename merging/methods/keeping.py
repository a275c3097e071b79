"""A method that keeps tasks apart, applied to float32 blocks: the vector, the masks, and the scales."""

from __future__ import annotations

from merging.lazy import Bool, Float, Tensor
from merging.methods.application import Application
from merging.methods.declare import Keeps
from merging.methods.parameters import Measured


class Keeping(Application):
    """An application whose method declares `keeps`."""

    @property
    def keeps(self) -> Keeps:
        """How the method keeps tasks."""
        assert self.method.needs.keeps
        return self.method.needs.keeps

    def parts(
        self, x: Float[Tensor, "models *shape"], measured: Measured, start: int = 0
    ) -> tuple[Float[Tensor, "*shape"], Bool[Tensor, "models *shape"]]:
        """The unified task vector of a block, and the mask of each task."""
        vector, masks = self.keeps.parts(x, **self._arguments(self.keeps.parts, measured, start))
        return vector, masks

    def scales(self, measured: Measured) -> Float[Tensor, " models"]:
        """What each task's masked vector is multiplied with; float64."""
        return self.work_out(self.keeps.scales, measured)

"""What gradients have to do with a Variable: whether they are wanted, which there are, and how they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from backtalk.autodiff.steps import Step
from backtalk.wire.graph import Variable as Value

if TYPE_CHECKING:
    from backtalk.autodiff.nodes import Node
    from backtalk.autodiff.variable import Variable


class Differentiable:
    """The part of a Variable that gradients concern."""

    _value: Value
    _step: Step | None
    _grad: list[Any]
    _retains: bool

    @property
    def requires_grad(self) -> bool:
        """Whether gradients are wanted of it, or of something it was computed from."""
        return self._value.requires_grad

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        self.requires_grad_(wanted)

    def requires_grad_(self, requires_grad: bool = True) -> Self:  # noqa: FBT001, FBT002
        """Say whether gradients are wanted. Raises RuntimeError on what an operation wrote: there it follows."""
        if requires_grad != self.requires_grad:
            if self._step is not None:
                raise RuntimeError(
                    "requires_grad of what an operation wrote follows from what it read; use detach()"
                )
            self._replace(requires_grad=bool(requires_grad))
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded operation wrote it."""
        return self._step is None

    @property
    def grad_fn(self) -> Node | None:
        """The operation that wrote it, as a node whose edges lead backward; None on a leaf."""
        from backtalk.autodiff.nodes import node_of  # noqa: PLC0415  nodes read Variables

        return node_of(self._value, self._step)

    @grad_fn.setter
    def grad_fn(self, node: object) -> None:  # noqa: ARG002  it is refused whatever it is
        if not self.requires_grad:
            raise RuntimeError("grad_fn cannot be set, least of all where no gradient is required")
        raise AttributeError("grad_fn cannot be set; it follows from what was recorded")

    @property
    def output_nr(self) -> int:
        """Which of the outputs of its operation it is; 0 on a leaf."""
        node = self.grad_fn
        return node.outputs.index(self._value.id) if node else 0

    @property
    def grad(self) -> list[Any]:
        """The gradients so far, in order, none merged. The list is the Variable's own: append to it, clear it.

        Raises RuntimeError on what an operation wrote, unless `retain_grad()` was called before `backward()`.
        """
        self._check_holds_grad()
        return self._grad

    @grad.setter
    def grad(self, gradients: Any) -> None:
        self._check_holds_grad()
        for one in gradients if isinstance(gradients, list) else (gradients,):
            if not isinstance(gradients, list) or not isinstance(one, Differentiable):
                raise TypeError(f"grad must be a list of Variables; found {type(one).__name__}")
        self._grad = gradients

    def append_grad(self, gradient: Variable) -> None:
        """Add one gradient to `grad`."""
        self._check_holds_grad()
        if not isinstance(gradient, Differentiable):
            raise TypeError(f"a gradient is a Variable, not {type(gradient).__name__}")
        self._grad.append(gradient)

    def retain_grad(self) -> None:
        """Keep the gradients of what an operation wrote. Raises RuntimeError on a leaf, which keeps them anyway."""
        if self._step is None:
            raise RuntimeError(
                "retain_grad() is for what an operation wrote; a leaf keeps its gradients anyway"
            )
        self._retains = True

    @property
    def retains_grad(self) -> bool:
        """Whether `retain_grad()` was called."""
        return self._retains

    def _check_holds_grad(self) -> None:
        if self._step is not None and not self._retains:
            raise RuntimeError(
                "this Variable was written by an operation and keeps no gradients; "
                "call retain_grad() on it before backward(), or look at the leaves"
            )

    def _replace(self, **changes: Any) -> None:
        raise NotImplementedError

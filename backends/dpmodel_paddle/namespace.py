"""The part of the Array API standard that dpmodel uses, spelled for Paddle.

What can have a second derivative has one in Paddle's eager mode, but for ``max``, which the core applies to constants.
What has none there (``softmax``, ``norm``, ``einsum``, strided slices, ...) the core does without.
"""

from dpmodel_paddle.quiet import paddle

abs, exp, floor, log, sqrt, tanh = paddle.abs, paddle.exp, paddle.floor, paddle.log, paddle.sqrt, paddle.tanh
equal, reshape = paddle.equal, paddle.reshape
bool, int32, int64 = paddle.bool, paddle.int32, paddle.int64
bfloat16, float16, float32, float64 = paddle.bfloat16, paddle.float16, paddle.float32, paddle.float64


def arange(start, /, stop=None, step=1, *, dtype=None, device=None):
    return paddle.arange(start, stop, step, dtype=dtype, device=device)


def argsort(x, /, *, axis=-1, descending=False, stable=True):
    return paddle.argsort(x, axis=axis, descending=descending, stable=stable)


def astype(x, dtype, /, *, copy=True):
    return paddle.cast(x, dtype) if copy or x.dtype != dtype else x


def broadcast_to(x, /, shape):
    return paddle.broadcast_to(x, shape)


def clip(x, /, min=None, max=None):
    # a traced function would keep Python numbers in float32
    return paddle.clip(x, None if min is None else _number(min, x), None if max is None else _number(max, x))


def concat(arrays, /, *, axis=0):
    # the second derivative fails where only some of the arrays have one: give the others one nobody asks for
    if len({x.stop_gradient for x in arrays}) > 1:
        arrays = [_variable(x) if x.stop_gradient else x for x in arrays]
    return paddle.concat(list(arrays), axis=axis)


def detach(x):
    return x.detach()


def eye(n, /, *, dtype=None, device=None):
    return paddle.eye(n, dtype=dtype, device=device)


def full(shape, value, *, dtype=None, device=None):
    return paddle.full(shape, value, dtype=dtype, device=device)


def matrix_transpose(x, /):
    return x.mT


def max(x, /, *, axis=None, keepdims=False):
    return paddle.max(x, axis=axis, keepdim=keepdims)


def mean(x, /, *, axis=None, keepdims=False):
    return paddle.mean(x, axis=axis, keepdim=keepdims)


def not_equal(x1, x2, /):
    return x1 != x2


def permute_dims(x, /, axes):
    return paddle.transpose(x, axes)


def shape(x):
    return tuple(n if n >= 0 else paddle.shape(x)[k] for k, n in enumerate(x.shape))  # -1: only a run will tell


def sum(x, /, *, axis=None, keepdims=False):
    return paddle.sum(x, axis=axis, keepdim=keepdims)


def triu(x, /, *, k=0):
    return paddle.triu(x, k)


def take(x, indices, /, *, axis):
    return paddle.index_select(x, indices, axis=axis)  # paddle.take has no axis: it flattens


def where(condition, x1, x2, /):
    # paddle.where makes a Python number int64 or float32, whatever its partner is
    if isinstance(x1, (int, float)):
        x1 = _number(x1, x2)
    elif isinstance(x2, (int, float)):
        x2 = _number(x2, x1)
    return paddle.where(condition, x1, x2)


class _Derived(paddle.autograd.PyLayer):
    @staticmethod
    def forward(ctx, function, adjoint, *x):
        result = function(*x)
        ctx.adjoint = adjoint
        ctx.save_for_backward(result, *x)
        return result

    @staticmethod
    def backward(ctx, slope):
        result, *x = ctx.saved_tensor()
        slopes = ctx.adjoint(result, slope, *x)
        return tuple(slope for slope, value in zip(slopes, x, strict=True) if not value.stop_gradient)


def with_adjoint(function, adjoint, *x):
    """``function(*x)`` with the derivative ``adjoint``; programs see ``function`` alone."""
    return _Derived.apply(function, adjoint, *x) if paddle.in_dynamic_mode() else function(*x)


def zeros(shape, *, dtype=None, device=None):
    return paddle.zeros(shape, dtype=dtype, device=device)


def _number(value, x):
    """A Python number as an array like ``x``, without axes."""
    return paddle.full([], value, dtype=x.dtype, device=getattr(x, "device", None))


def _variable(x):
    """``x`` as the start of a derivative."""
    x = x.detach()
    x.stop_gradient = False
    return x

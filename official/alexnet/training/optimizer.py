"""SGD as published (section 5)."""

import math
from collections.abc import Callable, Mapping

import tensorflow as tf

from official.alexnet.backend import keras
from official.alexnet.distribution.capabilities import xla_runs_here
from official.alexnet.modeling.structure import whole_name

# Elements; compiling takes a tenth of a second, and small updates are slower for it.
_COMPILED_FROM = 2**17


@keras.saving.register_keras_serializable("official.alexnet")
class PaperSGD(keras.optimizers.Optimizer):
    """Momentum with the weight decay inside the velocity.

        v <- momentum * v - decay * learning_rate * w - learning_rate * gradient
        w <- w + v

    Keras's own `weight_decay` is another rule: it shrinks w outside the velocity.

    Args:
        learning_rate: epsilon of the paper.
        momentum: 0.9 in the paper.
        decay: weight decay, 0.0005 in the paper.
        bias_learning_rate: multiple of the learning rate for biases; the 2012 source
            has 2.
        skip_nan: leave weights and velocity as they are where the gradient is NaN;
            see `LossScale`.
        decay_biases: whether biases decay as well, as the paper's rule says; in the
            2012 source they do not.
        layer_learning_rates: multiples of the learning rate for layers (`conv1`, both
            its columns) or weights (`conv1/kernel`); where several fit, the last
            does. 0: nothing changes, neither the weight nor its velocity.
    """

    def __init__(
        self,
        learning_rate: float = 0.01,
        momentum: float = 0.9,
        decay: float = 0.0005,
        bias_learning_rate: float = 1.0,
        decay_biases: bool = True,
        layer_learning_rates: Mapping[str, float] | None = None,
        skip_nan: bool = False,
        name: str = "paper_sgd",
        **kwargs,
    ):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.momentum = momentum
        self.decay = decay
        self.bias_learning_rate = bias_learning_rate
        self.decay_biases = decay_biases
        self.layer_learning_rates = dict(layer_learning_rates or {})
        self.skip_nan = skip_nan

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.velocities = self.add_optimizer_variables(variables, "velocity")
        self.names = [_whole_name(variable) for variable in variables]
        # A tensor, so that a change of a rate does not trace the step anew. Filled at
        # once: Keras's `fit` comes here while it traces.
        with tf.init_scope():
            self._rates = tf.Variable(tf.ones(len(self.names)), trainable=False)
            self.set_multiples(self._first_multiple)

    def _first_multiple(self, weight: str) -> float:
        layer, _, kind = weight.partition("/")
        multiple = 1.0
        for name, value in self.layer_learning_rates.items():
            if name in (layer, weight):
                multiple = value
        return multiple * (self.bias_learning_rate if kind == "bias" else 1.0)

    def set_multiples(self, multiple_of: Callable[[str], float]) -> None:
        """Gives each weight its learning rate as a multiple of `learning_rate`.

        `multiple_of` takes a name such as `conv1/kernel`. A weight that comes to 0, or
        from it, needs a step that is traced anew: see `multiple`.
        """
        self._multiples = [float(multiple_of(name)) for name in self.names]
        self._rates.assign(self._multiples)

    def multiple(self, variable: keras.Variable | tf.Variable) -> float:
        """Learning rate of a variable as a multiple of `learning_rate`.

        At 0 its update is left out of what is traced.
        """
        return self._multiples[self._get_variable_index(variable)]

    def velocity_of(self, variable: keras.Variable | tf.Variable) -> keras.Variable:
        """The velocity of a variable."""
        return self.velocities[self._get_variable_index(variable)]

    def _all_reduce_sum_gradients(self, grads_and_vars):
        # Device by device: TensorFlow hands all that it sums through one IdentityN.
        grads_and_vars = list(grads_and_vars)
        summed = [None] * len(grads_and_vars)
        homes = [gradient.device for gradient, _ in grads_and_vars]
        for home in dict.fromkeys(homes):
            places = [i for i, other in enumerate(homes) if other == home]
            with tf.device(home):
                found = super()._all_reduce_sum_gradients(
                    [grads_and_vars[i] for i in places]
                )
            for i, pair in zip(places, found, strict=True):
                summed[i] = pair
        return summed

    def update_step(self, gradient, variable, learning_rate):
        if self.multiple(variable) == 0:
            return
        velocity = _on_same_device(self.velocity_of(variable).value, variable)
        index = self._get_variable_index(variable)
        decays = self.decay_biases or not self.names[index].endswith("/bias")
        # Compiled on a CPU: one pass over weights and velocity.
        is_large = math.prod(variable.shape) >= _COMPILED_FROM
        compiled = is_large and "CPU" in variable.device and xla_runs_here()

        @tf.function(jit_compile=compiled, autograph=False)
        def update(gradient, learning_rate):
            if decays:
                gradient += self.decay * variable
            tf.raw_ops.ResourceApplyKerasMomentum(
                var=variable.handle,
                accum=velocity.handle,
                lr=learning_rate,
                grad=gradient,
                momentum=self.momentum,
            )

        # One column's variables may be elsewhere than the replica's own device, which
        # has all rates and sends it a scalar.
        strategy = tf.distribute.get_strategy()
        rates, *_ = strategy.experimental_local_results(self._rates)
        with tf.device(rates.device):
            multiple = rates[index]
        with tf.device(variable.device):
            gradient = tf.cast(gradient, variable.dtype)
            learning_rate = tf.cast(learning_rate, variable.dtype) * multiple
            if self.skip_nan:
                is_number = tf.math.is_finite(tf.reshape(gradient, [-1])[0])
                tf.cond(
                    is_number, lambda: update(gradient, learning_rate), lambda: None
                )
            else:
                update(gradient, learning_rate)

    def get_config(self) -> dict:
        return super().get_config() | {
            "momentum": self.momentum,
            "decay": self.decay,
            "bias_learning_rate": self.bias_learning_rate,
            "decay_biases": self.decay_biases,
            "layer_learning_rates": dict(self.layer_learning_rates),
            "skip_nan": self.skip_nan,
        }


def _whole_name(variable: keras.Variable) -> str:
    """Layer and weight, such as `conv1/kernel` for a column of it."""
    *_, layer, weight = ["", *variable.path.split("/")]
    return f"{whole_name(layer)}/{weight}"


def _on_same_device(slot: tf.Variable, variable: tf.Variable) -> tf.Variable:
    """The replica of a mirrored slot that belongs to one replica's variable."""
    replicas = tf.distribute.get_strategy().experimental_local_results(slot)
    return next(replica for replica in replicas if replica.device == variable.device)

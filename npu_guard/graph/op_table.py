"""The operators of ONNX, one line for each, grouped by kind. `ops.py` reads it.

A line is `NAME | INPUTS | FACTS [| FORMULA]`, with a domain before the name where it is not ONNX's own; an indented line goes on
with the one above. An input is written `NAME[:ROLE][?][*][=DEFAULT][@OPSET[<ATTRIBUTE]]`:

- the role is `data` where none is written; `?` may be left out; `*` follows any number of times (roles joined by `/` in turn);
- `=` the number that counts where it is left out; `@` the opset from which on it is an input, before which it is an attribute
  (of another name where one stands behind `<`).

Facts are those of `ops.Operator`:

- `zero`: data of zeros gives zeros; `finite`: finite data gives finite results; `at-zero`: zeros give finite results;
- `over:NAME`: the attribute or input that states the axes; `=1` the axis where nothing is stated; `,rest` adds all axes behind
  it, `,rest<13` before that opset only;
- `turns:NUMBER`: where the function turns or is computed otherwise from there on, and at minus that, whatever its attributes;
- `family:NAME`: the operator that this is a spelling of; `sized-by-data`: the output's shape depends on values.

The formula of a unary operator has its data as `x`, attributes by name, and functions by numpy's names (and erf).

Source: https://onnx.ai/onnx/operators (onnx 1.23). Tests compare names, optional inputs and opsets with onnx's schemas.
"""

from __future__ import annotations

from collections.abc import Mapping

ONNX: Mapping[str, str] = {
    "unary": """
Abs | X | zero finite turns:0 | abs(x)
Acos | input | at-zero | arccos(x)
Acosh | input | | arccosh(x)
Asin | input | zero | arcsin(x)
Asinh | input | zero finite | arcsinh(x)
Atan | input | zero finite | arctan(x)
Atanh | input | zero | arctanh(x)
BitCast | input | zero
BitwiseNot | X | finite | ~x
Cast | input | zero
CastLike | input target_type:type | zero
Ceil | X | zero finite | ceil(x)
Celu | X | zero finite | maximum(x, 0) + minimum(0, alpha * expm1(x / alpha))
Clip | input min:bound?=-inf@11 max:bound?=inf@11 | finite
Cos | input | finite | cos(x)
Cosh | input | at-zero | cosh(x)
Elu | X | zero finite turns:0 | where(x < 0, alpha * expm1(x), x)
Erf | input | zero finite family:Gelu | erf(x)
Exp | input | at-zero | exp(x)
Floor | X | zero finite | floor(x)
Gelu | X | zero finite | 0.5 * x * (1 + where(approximate == "tanh", tanh(sqrt(2 / pi) * (x + 0.044715 * x ** 3)), erf(x /
    sqrt(2))))
HardSigmoid | X | finite | minimum(1, maximum(0, alpha * x + beta))
HardSwish | X | zero finite turns:3 | x * minimum(1, maximum(0, x / 6 + 0.5))
IsInf | X | zero finite | isinf(x) & (where(x > 0, detect_positive, detect_negative) == 1)
IsNaN | X | zero finite | isnan(x)
LeakyRelu | X | zero finite turns:0 | where(x < 0, alpha * x, x)
Log | input | | log(x)
Mish | X | zero finite | x * tanh(log1p(exp(-abs(x))) + maximum(x, 0))
Neg | X | zero finite | -x
Not | X | finite | ~x
Reciprocal | X | | 1 / x
Relu | X | zero finite turns:0 | maximum(x, 0)
Round | X | zero finite | rint(x)
Selu | X | zero finite turns:0 | gamma * where(x > 0, x, alpha * expm1(x))
Shrink | input | finite | where(x < -lambd, x + bias, where(x > lambd, x - bias, 0))
Sigmoid | X | finite | 1 / (1 + exp(-x))
Sign | input | zero finite turns:0 | sign(x)
Sin | input | zero finite | sin(x)
Sinh | input | zero | sinh(x)
Softplus | X | finite turns:0 | log1p(exp(-abs(x))) + maximum(x, 0)
Softsign | input | zero finite | x / (1 + abs(x))
Sqrt | X | zero | sqrt(x)
Swish | X | zero finite | x / (1 + exp(-alpha * x))
Tan | input | zero | tan(x)
Tanh | input | zero finite | tanh(x)
ThresholdedRelu | X | zero finite | where(x > alpha, x, 0)
""",
    "broadcasting": """
Add | A B | zero finite
And | A B | zero finite
BitShift | X Y:parameter | zero finite
BitwiseAnd | A B | zero finite
BitwiseOr | A B | zero finite
BitwiseXor | A B | zero finite
Div | A B |
Equal | A B | finite
Greater | A B | zero finite
GreaterOrEqual | A B | finite
Less | A B | zero finite
LessOrEqual | A B | finite
Max | data_0* | zero finite
Mean | data_0* | zero finite
Min | data_0* | zero finite
Mod | A B |
Mul | A B | zero finite
Or | A B | zero finite
PRelu | X slope:weight | zero finite turns:0
Pow | X Y:parameter |
Sub | A B | zero finite
Sum | data_0* | zero finite
Where | condition:condition X Y | zero finite
Xor | A B | zero finite
""",
    "gate": """
SwiGLU | A B | zero finite
""",
    "reduction": """
ArgMax | data | over:axis
ArgMin | data | over:axis
ReduceL1 | data axes:axes?@18 | zero finite over:axes
ReduceL2 | data axes:axes?@18 | zero finite over:axes
ReduceLogSum | data axes:axes?@18 | over:axes
ReduceLogSumExp | data axes:axes?@18 | over:axes
ReduceMax | data axes:axes?@18 | zero finite over:axes
ReduceMean | data axes:axes?@18 | zero finite over:axes
ReduceMin | data axes:axes?@18 | zero finite over:axes
ReduceProd | data axes:axes?@18 | zero finite over:axes
ReduceSum | data axes:axes?@13 | zero finite over:axes
ReduceSumSquare | data axes:axes?@18 | zero finite over:axes
""",
    "view": """
Flatten | input | zero finite over:axis family:Reshape
Reshape | data shape:extents@5 | zero finite
Squeeze | data axes:axes?@13 | zero finite over:axes family:Reshape
Unsqueeze | data axes:axes@13 | zero finite over:axes family:Reshape
""",
    "identity": """
Dropout | data ratio:parameter?=0.5@12 training_mode:parameter?=0 | zero finite
Identity | input | zero finite
""",
    "data mover": """
CenterCropPad | input_data shape:extents | zero finite over:axes
Col2Im | input image_shape:extents block_shape:extents | zero finite
Concat | inputs* | zero finite over:axis=1
DepthToSpace | input | zero finite
Expand | input shape:extents | zero finite
Gather | data indices:position | zero finite over:axis
GatherElements | data indices:position | zero finite over:axis
GatherND | data indices:position | zero finite
Pad | data pads:padding@11<pads,paddings constant_value:fill?=0@11<value axes:axes? | over:axes
ReverseSequence | input sequence_lens:lengths | zero finite
Scatter | data indices:position updates | zero finite over:axis
ScatterElements | data indices:position updates | zero finite over:axis
ScatterND | data indices:position updates | zero finite
Slice | data starts:position@10 ends:position@10 axes:axes?@10 steps:step?=1 | zero finite over:axes
SpaceToDepth | input | zero finite
Split | input split:extents?@13 | zero finite over:axis=0 family:Slice
TensorScatter | past_cache:state update write_indices:position?=0 | zero finite over:axis
Tile | input repeats:extents | zero finite
Transpose | data | zero finite over:perm
Trilu | input k:parameter?=0 | zero finite
""",
    "selection": """
Compress | input condition:condition | zero finite over:axis sized-by-data
NonMaxSuppression | boxes scores max_output_boxes_per_class:parameter?=0 iou_threshold:parameter?=0 score_threshold:parameter? |
    sized-by-data
NonZero | X | sized-by-data
OneHot | indices depth:extents values:fill | over:axis
TopK | X K:parameter@10<k | over:axis
Unique | X | over:axis sized-by-data
""",
    "convolution": """
CausalConvWithState | input weight:weight bias:bias?=0 past_state:state?=0 |
Conv | X W:weight B:bias?=0 | finite
ConvInteger | x w:weight x_zero_point:zero_point?=0 w_zero_point:zero_point?=0 |
ConvTranspose | X W:weight B:bias?=0 | finite
DeformConv | X W:weight offset:position B:bias?=0 mask:mask?=1 |
QLinearConv | x x_scale:scale x_zero_point:zero_point w:weight w_scale:scale w_zero_point:zero_point y_scale:output_scale
    y_zero_point:output_zero_point B:bias?=0 |
""",
    "pooling": """
AveragePool | X | zero finite
LpPool | X | zero finite
MaxPool | X | zero finite
MaxUnpool | X I:position output_shape:extents? | zero finite
""",
    "global pooling": """
GlobalAveragePool | X | zero finite family:ReduceMean
GlobalLpPool | X | zero finite
GlobalMaxPool | X | zero finite family:ReduceMax
""",
    "product": """
Einsum | Inputs* | zero finite
Gemm | A B:weight C:bias?=0 | finite family:MatMul
MatMul | A B:weight | zero finite
MatMulInteger | A B:weight a_zero_point:zero_point?=0 b_zero_point:zero_point?=0 |
QLinearMatMul | a a_scale:scale a_zero_point:zero_point b:weight b_scale:scale b_zero_point:zero_point y_scale:output_scale
    y_zero_point:output_zero_point |
""",
    "attention": """
Attention | Q K V attn_mask:mask? past_key:state? past_value:state? nonpad_kv_seqlen:lengths? |
LinearAttention | query key value past_state:state?=0 decay:parameter? beta:parameter? |
""",
    "recurrent": """
GRU | X W:weight R:weight B:bias?=0 sequence_lens:lengths? initial_h:state?=0 |
LSTM | X W:weight R:weight B:bias?=0 sequence_lens:lengths? initial_h:state?=0 initial_c:state?=0 P:weight?=0 |
RNN | X W:weight R:weight B:bias?=0 sequence_lens:lengths? initial_h:state?=0 |
""",
    "normalization": """
BatchNormalization | X scale:weight B:bias input_mean:mean input_var:variance |
GroupNormalization | X scale:weight bias:bias |
InstanceNormalization | input scale:weight B:bias |
LRN | X |
LayerNormalization | X Scale:weight B:bias?=0 | over:axis,rest
LpNormalization | input | over:axis
MeanVarianceNormalization | X | over:axes
RMSNormalization | X scale:weight | over:axis,rest
SimplifiedLayerNormalization | X scale:weight | over:axis,rest
""",
    "softmax": """
Hardmax | input | finite over:axis,rest<13
LogSoftmax | input | finite over:axis,rest<13
Softmax | input | finite over:axis,rest<13
""",
    "quantization": """
DequantizeLinear | x x_scale:scale x_zero_point:zero_point?=0 | over:axis
DynamicQuantizeLinear | x |
QuantizeLinear | x y_scale:scale y_zero_point:zero_point?=0 | over:axis
""",
    "resampling": """
AffineGrid | theta size:extents |
GridSample | X grid:position |
MaxRoiPool | X rois:position |
Resize | X roi:position? scales:extents? sizes:extents? | over:axes
RoiAlign | X rois:position batch_indices:position |
Upsample | X scales:extents@9 |
""",
    "cumulative": """
CumProd | x axis:axes | over:axis
CumSum | x axis:axes | over:axis
""",
    "transform": """
DFT | input dft_length:extents? axis:axes?=-2@20 | over:axis
Det | X |
STFT | signal frame_step:extents window:weight? frame_length:extents? |
""",
    "embedding": """
RotaryEmbedding | X cos_cache:weight sin_cache:weight position_ids:position? |
""",
    "query": """
Shape | data |
Size | data |
""",
    "generator": """
BlackmanWindow | size:extents |
Constant | |
ConstantOfShape | input:extents |
EyeLike | input:extents |
HammingWindow | size:extents |
HannWindow | size:extents |
MelWeightMatrix | num_mel_bins:extents dft_length:extents sample_rate:parameter lower_edge_hertz:parameter
    upper_edge_hertz:parameter |
Range | start:parameter limit:parameter delta:parameter |
""",
    "random": """
Bernoulli | input |
Multinomial | input |
RandomNormal | |
RandomNormalLike | input:extents |
RandomUniform | |
RandomUniformLike | input:extents |
""",
    "control": """
If | cond:condition |
Loop | M:parameter? cond:condition? v_initial:state* |
Scan | initial_state_and_scan_inputs:state* |
SequenceMap | input_sequence additional_inputs* |
""",
    "sequence": """
ConcatFromSequence | input_sequence | over:axis
Optional | input? |
OptionalGetElement | input |
OptionalHasElement | input? |
SequenceAt | input_sequence position:position |
SequenceConstruct | inputs* |
SequenceEmpty | |
SequenceErase | input_sequence position:position? |
SequenceInsert | input_sequence tensor position:position? |
SequenceLength | input_sequence |
SplitToSequence | input split:extents? | over:axis
""",
    "text": """
ImageDecoder | encoded_stream | sized-by-data
RegexFullMatch | X |
StringConcat | X Y |
StringNormalizer | X | sized-by-data
StringSplit | X | sized-by-data
TfIdfVectorizer | X |
""",
    "loss": """
NegativeLogLikelihoodLoss | input target:position weight:weight?=1 |
SoftmaxCrossEntropyLoss | scores labels:position weights:weight?=1 |
""",
    "classical": """
ai.onnx.ml::ArrayFeatureExtractor | X Y:position |
ai.onnx.ml::Binarizer | X |
ai.onnx.ml::CastMap | X |
ai.onnx.ml::CategoryMapper | X |
ai.onnx.ml::DictVectorizer | X |
ai.onnx.ml::FeatureVectorizer | X* |
ai.onnx.ml::Imputer | X |
ai.onnx.ml::LabelEncoder | X |
ai.onnx.ml::LinearClassifier | X |
ai.onnx.ml::LinearRegressor | X |
ai.onnx.ml::Normalizer | X |
ai.onnx.ml::OneHotEncoder | X |
ai.onnx.ml::SVMClassifier | X |
ai.onnx.ml::SVMRegressor | X |
ai.onnx.ml::Scaler | X |
ai.onnx.ml::TreeEnsemble | X |
ai.onnx.ml::TreeEnsembleClassifier | X |
ai.onnx.ml::TreeEnsembleRegressor | X |
ai.onnx.ml::ZipMap | X |
""",
}

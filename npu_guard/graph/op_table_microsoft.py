"""Operators of ONNX Runtime's domain com.microsoft that models meet, written as in `op_table.py`.

Source: docs/ContribOperators.md of onnxruntime 1.32. A test compares names and optional inputs with onnxruntime's schemas.
"""

from __future__ import annotations

from collections.abc import Mapping

MICROSOFT: Mapping[str, str] = {
    "unary": """
Gelu | X | zero finite
QuickGelu | X | zero finite
QLinearLeakyRelu | X X_scale:scale X_zero_point:zero_point?=0 Y_scale:output_scale Y_zero_point:output_zero_point?=0 |
QLinearSigmoid | X X_scale:scale X_zero_point:zero_point?=0 Y_scale:output_scale Y_zero_point:output_zero_point?=0 |
QOrderedGelu | X scale_X:scale scale_Y:output_scale |
""",
    "broadcasting": """
BiasAdd | X bias:bias skip |
BiasDropout | data bias:bias residual? ratio:parameter?=0.5 training_mode:parameter?=0 |
BiasGelu | A B:bias | finite
FastGelu | X bias:bias?=0 | finite
MulInteger | A A_zero_point:zero_point?=0 B B_zero_point:zero_point?=0 |
QLinearAdd | A A_scale:scale A_zero_point:zero_point?=0 B B_scale:scale B_zero_point:zero_point?=0 C_scale:output_scale
    C_zero_point:output_zero_point?=0 |
QLinearMul | A A_scale:scale A_zero_point:zero_point?=0 B B_scale:scale B_zero_point:zero_point?=0 C_scale:output_scale
    C_zero_point:output_zero_point?=0 |
QLinearWhere | condition:condition X x_scale:scale x_zero_point:zero_point Y y_scale:scale y_zero_point:zero_point
    z_scale:output_scale z_zero_point:output_zero_point |
""",
    "gate": """
BiasSplitGelu | X bias:bias |
SwiGLU | gate up? |
""",
    "reduction": """
QLinearReduceMean | data data_scale:scale data_zero_point:zero_point?=0 reduced_scale:output_scale
    reduced_zero_point:output_zero_point?=0 | over:axes
ReduceSumInteger | data | over:axes
""",
    "view": """
ExpandDims | X axis:axes | zero finite over:axis
""",
    "identity": """
BitmaskDropout | data ratio:parameter?=0.5 training_mode:parameter?=0 |
""",
    "data mover": """
GatherBlockQuantized | data:weight indices:position scales:scale zero_points:zero_point? |
GatherND | data indices:position | zero finite
Pad | data pads:padding value:fill?=0 |
QLinearConcat | Y_scale:output_scale Y_zero_point:output_zero_point inputs:data/scale/zero_point* | over:axis=1
Trilu | X k:parameter?=0 | zero finite
UnfoldTensor | input | zero finite
""",
    "selection": """
Unique | x | sized-by-data
""",
    "convolution": """
CausalConvWithState | input weight:weight bias:bias?=0 past_state:state?=0 |
ConvTransposeWithDynamicPads | X W:weight Pads:padding? B:bias?=0 |
FusedConv | X W:weight B:bias?=0 Z?=0 |
NhwcConv | X W:weight B:bias?=0 |
NhwcFusedConv | X W:weight B:bias?=0 Z?=0 |
QLinearConv | x x_scale:scale x_zero_point:zero_point w:weight w_scale:scale w_zero_point:zero_point y_scale:output_scale
    y_zero_point:output_zero_point B:bias?=0 |
""",
    "pooling": """
MaxpoolWithMask | X M:mask |
NhwcMaxPool | x |
QLinearAveragePool | X x_scale:scale x_zero_point:zero_point?=0 y_scale:output_scale y_zero_point:output_zero_point?=0 |
""",
    "global pooling": """
QLinearGlobalAveragePool | X x_scale:scale x_zero_point:zero_point y_scale:output_scale y_zero_point:output_zero_point |
""",
    "product": """
DynamicQuantizeMatMul | A B:weight b_scale:scale b_zero_point:zero_point?=0 bias:bias?=0 |
FusedGemm | A B:weight C:bias?=0 |
FusedMatMul | A B:weight | zero finite
FusedMatMulActivation | A B:weight |
GemmFastGelu | X W:weight bias:bias?=0 |
GemmFloat8 | A B:weight C:bias?=0 scaleA:scale? scaleB:scale? scaleY:output_scale? |
MatMulBnb4 | A B:weight absmax:scale |
MatMulInteger16 | A B:weight |
MatMulIntegerToFloat | A B:weight a_scale:scale b_scale:scale a_zero_point:zero_point?=0 b_zero_point:zero_point?=0 bias:bias?=0 |
MatMulNBits | A B:weight scales:scale zero_points:zero_point? g_idx:position? bias:bias?=0 |
QGemm | A a_scale:scale a_zero_point:zero_point B:weight b_scale:scale b_zero_point:zero_point C:bias?=0 y_scale:output_scale?
    y_zero_point:output_zero_point? |
SparseToDenseMatMul | A B:weight |
TransposeMatMul | A B:weight |
""",
    "attention": """
Attention | input weights:weight bias:bias?=0 mask_index:mask? past:state? attention_bias:mask? past_sequence_length:lengths? |
DecoderMaskedMultiHeadAttention | query key? value? mask_index:mask? attention_bias:mask? past_key:state? past_value:state?
    past_sequence_length:lengths? beam_width:parameter? cache_indirection:position? bias:bias?=0 |
GroupQueryAttention | query key? value? past_key:state? past_value:state? seqlens_k:lengths total_sequence_length:lengths
    cos_cache:weight? sin_cache:weight? position_ids:position? attention_bias:mask? head_sink:weight? k_scale:scale?
    v_scale:scale? q_norm_weight:weight? k_norm_weight:weight? query_seqlens:lengths? |
LinearAttention | query key value past_state:state?=0 decay:parameter? beta:parameter? |
LongformerAttention | input weight:weight bias:bias mask:mask global_weight:weight global_bias:bias global:mask |
MultiHeadAttention | query key? value? bias:bias?=0 key_padding_mask:mask? attention_bias:mask? past_key:state?
    past_value:state? past_sequence_length:lengths? cache_indirection:position? |
PackedAttention | input weights:weight bias:bias token_offset:position cumulative_sequence_length:lengths attention_bias:mask? |
PackedMultiHeadAttention | query key? value? bias:bias?=0 token_offset:position cumulative_sequence_length:lengths
    attention_bias:mask? |
QAttention | input weight:weight bias:bias input_scale:scale weight_scale:scale mask_index:mask? input_zero_point:zero_point?=0
    weight_zero_point:zero_point?=0 past:state? |
SparseAttention | query key? value? past_key:state past_value:state block_row_indices:position block_col_indices:position
    total_sequence_length:lengths key_total_sequence_lengths:lengths cos_cache:weight? sin_cache:weight? |
""",
    "recurrent": """
AttnLSTM | X W:weight R:weight B:bias?=0 sequence_lens:lengths? initial_h:state?=0 initial_c:state?=0 P:weight?=0 QW:weight?
    MW:weight? V:weight? M? memory_seq_lens:lengths? AW:weight? |
DynamicQuantizeLSTM | X W:weight R:weight B:bias?=0 sequence_lens:lengths? initial_h:state?=0 initial_c:state?=0 P:weight?=0
    W_scale:scale W_zero_point:zero_point R_scale:scale R_zero_point:zero_point |
""",
    "normalization": """
EmbedLayerNormalization | input_ids:position segment_ids:position? word_embedding:weight position_embedding:weight
    segment_embedding:weight? gamma:weight beta:bias mask:mask? position_ids:position? |
GroupNorm | X gamma:weight beta:bias |
QOrderedLayerNormalization | X scale_X:scale scale:weight B:bias?=0 scale_Y:output_scale | over:axis,rest
SkipGroupNorm | X gamma:weight beta:bias skip bias:bias?=0 |
SkipLayerNormalization | input skip gamma:weight beta:bias?=0 bias:bias?=0 |
SkipSimplifiedLayerNormalization | input skip gamma:weight bias:bias?=0 |
""",
    "softmax": """
BiasSoftmax | data bias:bias | over:axis,rest
QLinearSoftmax | X X_scale:scale x_zero_point:zero_point? y_scale:output_scale y_zero_point:output_zero_point | over:axis
""",
    "quantization": """
DequantizeLinear | x x_scale:scale x_zero_point:zero_point?=0 | over:axis
DequantizeWithOrder | input scale_input:scale |
QuantizeLinear | x y_scale:scale y_zero_point:zero_point?=0 | over:axis
QuantizeWithOrder | input scale_input:scale |
""",
    "resampling": """
CropAndResize | X rois:position batch_indices:position crop_size:extents |
GridSample | X Grid:position |
""",
    "transform": """
CDist | A B |
ComplexMul | A B |
ComplexMulConj | A B |
Inverse | X |
Irfft | X |
Rfft | X |
""",
    "embedding": """
GatedRelativePositionBias | query_layer query_bias:bias rel_pos weight:weight bias:bias eco_a:weight token_offset:position? |
RelativePositionBias | bias_table:weight query_length:extents key_length:extents |
RotaryEmbedding | input position_ids:position cos_cache:weight sin_cache:weight |
TorchEmbedding | weight:weight indices:position padding_idx:parameter? scale_grad_by_freq:parameter? |
""",
    "mixture": """
MoE | input router_probs fc1_experts_weights:weight fc1_experts_bias:bias?=0 fc2_experts_weights:weight fc2_experts_bias:bias?=0
    fc3_experts_weights:weight? fc3_experts_bias:bias?=0 |
""",
    "generator": """
Range | start:parameter limit:parameter delta:parameter?=1 |
""",
    "text": """
Tokenizer | X | sized-by-data
""",
}

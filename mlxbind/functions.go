package mlxbind

// function numbers a function of the shim.
type function int

func (f function) String() string { return functionNames[f] }

const (
	fnFree function = iota
	fnInUse
	fnDescribe
	fnScalar
	fnFrom
	fnCopy
	fnEval
	fnAsyncEval
	fnIsComputed
	fnFull
	fnArange
	fnNegative
	fnAbs
	fnExp
	fnLog
	fnSqrt
	fnRsqrt
	fnSquare
	fnSin
	fnCos
	fnTanh
	fnSigmoid
	fnIsFinite
	fnLogicalNot
	fnStopGradient
	fnContiguous
	fnZerosLike
	fnSumAll
	fnMeanAll
	fnAdd
	fnSubtract
	fnMultiply
	fnDivide
	fnPower
	fnMaximum
	fnMinimum
	fnMatMul
	fnEqual
	fnGreater
	fnGreaterEqual
	fnLess
	fnLessEqual
	fnLogicalAnd
	fnLogicalOr
	fnAddNumber
	fnMultiplyNumber
	fnDivideNumber
	fnPowerNumber
	fnMaximumNumber
	fnMinimumNumber
	fnGreaterEqualNumber
	fnLessNumber
	fnSum
	fnMean
	fnMax
	fnMin
	fnArgMax
	fnLogSumExp
	fnSoftmax
	fnWhere
	fnAddMM
	fnAsType
	fnView
	fnReshape
	fnBroadcastTo
	fnTranspose
	fnExpandDims
	fnSqueeze
	fnSlice
	fnTake
	fnTakeAlongAxis
	fnConcatenate
	fnSort
	fnArgSort
	fnCumSum
	fnRMSNorm
	fnLayerNorm
	fnRoPE
	fnAttention
	fnCrossEntropy
	fnQuantize
	fnDequantize
	fnQuantizedMatMul
	fnRandomKey
	fnRandomSplit
	fnRandomUniform
	fnRandomNormal
	fnRandomBernoulli
	fnRandomCategorical
	fnABI
	fnBuiltFor
	fnMLXVersion
	fnIsOwner
	fnLive
	fnOpen
	fnClose
	fnSynchronize
	fnReturn
	fnValueAndGrad
	fnCompile
	fnCheckpoint
	fnCustomVJP
	fnCall
	fnResults
	fnFreeFunction
	fnEnableCompile
	fnGraph
	fnGraphSize
	fnGraphEnds
	fnGraphNode
	fnGraphPart
	fnFreeGraph
	fnMemory
	fnResetPeak
	fnClearCache
	fnSetMemoryLimit
	fnSetCacheLimit
	fnSetWiredLimit
	fnBufferBytes
	fnDevice
	fnUseCPU
	fnOpenSafetensors
	fnCountTensors
	fnTensor
	fnCloseSafetensors
	fnSaveSafetensors
	fnJoin
	fnGroupRank
	fnGroupSize
	fnLeave
	fnAllSum
	functions
)

// functionNames are the shim's exports, less their prefix.
var functionNames = [functions]string{
	fnFree:               "free",
	fnInUse:              "in_use",
	fnDescribe:           "describe",
	fnScalar:             "scalar",
	fnFrom:               "from",
	fnCopy:               "copy",
	fnEval:               "eval",
	fnAsyncEval:          "async_eval",
	fnIsComputed:         "is_computed",
	fnFull:               "full",
	fnArange:             "arange",
	fnNegative:           "negative",
	fnAbs:                "abs",
	fnExp:                "exp",
	fnLog:                "log",
	fnSqrt:               "sqrt",
	fnRsqrt:              "rsqrt",
	fnSquare:             "square",
	fnSin:                "sin",
	fnCos:                "cos",
	fnTanh:               "tanh",
	fnSigmoid:            "sigmoid",
	fnIsFinite:           "isfinite",
	fnLogicalNot:         "logical_not",
	fnStopGradient:       "stop_gradient",
	fnContiguous:         "contiguous",
	fnZerosLike:          "zeros_like",
	fnSumAll:             "sum_all",
	fnMeanAll:            "mean_all",
	fnAdd:                "add",
	fnSubtract:           "subtract",
	fnMultiply:           "multiply",
	fnDivide:             "divide",
	fnPower:              "power",
	fnMaximum:            "maximum",
	fnMinimum:            "minimum",
	fnMatMul:             "matmul",
	fnEqual:              "equal",
	fnGreater:            "greater",
	fnGreaterEqual:       "greater_equal",
	fnLess:               "less",
	fnLessEqual:          "less_equal",
	fnLogicalAnd:         "logical_and",
	fnLogicalOr:          "logical_or",
	fnAddNumber:          "add_number",
	fnMultiplyNumber:     "multiply_number",
	fnDivideNumber:       "divide_number",
	fnPowerNumber:        "power_number",
	fnMaximumNumber:      "maximum_number",
	fnMinimumNumber:      "minimum_number",
	fnGreaterEqualNumber: "greater_equal_number",
	fnLessNumber:         "less_number",
	fnSum:                "sum",
	fnMean:               "mean",
	fnMax:                "max",
	fnMin:                "min",
	fnArgMax:             "argmax",
	fnLogSumExp:          "logsumexp",
	fnSoftmax:            "softmax",
	fnWhere:              "where",
	fnAddMM:              "addmm",
	fnAsType:             "astype",
	fnView:               "view",
	fnReshape:            "reshape",
	fnBroadcastTo:        "broadcast_to",
	fnTranspose:          "transpose",
	fnExpandDims:         "expand_dims",
	fnSqueeze:            "squeeze",
	fnSlice:              "slice",
	fnTake:               "take",
	fnTakeAlongAxis:      "take_along_axis",
	fnConcatenate:        "concatenate",
	fnSort:               "sort",
	fnArgSort:            "argsort",
	fnCumSum:             "cumsum",
	fnRMSNorm:            "rms_norm",
	fnLayerNorm:          "layer_norm",
	fnRoPE:               "rope",
	fnAttention:          "attention",
	fnCrossEntropy:       "cross_entropy",
	fnQuantize:           "quantize",
	fnDequantize:         "dequantize",
	fnQuantizedMatMul:    "quantized_matmul",
	fnRandomKey:          "random_key",
	fnRandomSplit:        "random_split",
	fnRandomUniform:      "random_uniform",
	fnRandomNormal:       "random_normal",
	fnRandomBernoulli:    "random_bernoulli",
	fnRandomCategorical:  "random_categorical",
	fnABI:                "abi",
	fnBuiltFor:           "built_for",
	fnMLXVersion:         "mlx_version",
	fnIsOwner:            "is_owner",
	fnLive:               "live",
	fnOpen:               "open",
	fnClose:              "close",
	fnSynchronize:        "synchronize",
	fnReturn:             "return",
	fnValueAndGrad:       "value_and_grad",
	fnCompile:            "compile",
	fnCheckpoint:         "checkpoint",
	fnCustomVJP:          "custom_vjp",
	fnCall:               "call",
	fnResults:            "results",
	fnFreeFunction:       "free_function",
	fnEnableCompile:      "enable_compile",
	fnGraph:              "graph",
	fnGraphSize:          "graph_size",
	fnGraphEnds:          "graph_ends",
	fnGraphNode:          "graph_node",
	fnGraphPart:          "graph_part",
	fnFreeGraph:          "free_graph",
	fnMemory:             "memory",
	fnResetPeak:          "reset_peak",
	fnClearCache:         "clear_cache",
	fnSetMemoryLimit:     "set_memory_limit",
	fnSetCacheLimit:      "set_cache_limit",
	fnSetWiredLimit:      "set_wired_limit",
	fnBufferBytes:        "buffer_bytes",
	fnDevice:             "device",
	fnUseCPU:             "use_cpu",
	fnOpenSafetensors:    "open_safetensors",
	fnCountTensors:       "count_tensors",
	fnTensor:             "tensor",
	fnCloseSafetensors:   "close_safetensors",
	fnSaveSafetensors:    "save_safetensors",
	fnJoin:               "join",
	fnGroupRank:          "group_rank",
	fnGroupSize:          "group_size",
	fnLeave:              "leave",
	fnAllSum:             "all_sum",
}

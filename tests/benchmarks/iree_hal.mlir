module {
  util.global private @__hoisted : !hal.buffer
  util.initializer {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c4 = arith.constant 4 : index
    %c1280 = arith.constant 1280 : index
    %0 = util.null : !hal.fence
    %buffer_cst = util.buffer.constant <alignment = 64> : !util.buffer = #util.composite<192xi8, [
    dense<[[-0.5, 0.25], [1.0e+01, -5.0e-01]]> : tensor<2x2xf32>,
    dense<"0x0000803F000000400000404000008040"> : tensor<2x2xf32>,
    dense<0> : vector<160xi8>,
]>
    %c192 = arith.constant 192 : index
    %did_import, %mapped = hal.allocator.import<%allocator : !hal.allocator> source(%buffer_cst : !util.buffer)[%c0, %c192] affinity(%c-1_i64) type(%memory_type) usage(%buffer_usage) : i1, !hal.buffer
    cf.cond_br %did_import, ^bb2(%0, %mapped : !hal.fence, !hal.buffer), ^bb1
  ^bb1:  // pred: ^bb0
    %buffer = hal.allocator.allocate<%allocator : !hal.allocator> affinity(%c-1_i64) type(%memory_type) usage(%buffer_usage) : !hal.buffer{%c192}
    cf.br ^bb2(%fence, %buffer : !hal.fence, !hal.buffer)
  ^bb2(%1: !hal.fence, %2: !hal.buffer):  // 2 preds: ^bb0, ^bb1
    %transient_buffer = hal.device.queue.alloca<%__device_0 : !hal.device> affinity(%c-1_i64) wait(%0) signal(%fence_0) pool(%c0_i64) type(%memory_type) usage(%buffer_usage) flags("None") : !hal.buffer{%c1280}
    %cmd = hal.command_buffer.create device(%__device_0 : !hal.device) mode(OneShot) categories("Transfer|Dispatch") affinity(%c-1_i64) : !hal.command_buffer
    %function_id = hal.executable.lookup.function target(%executable : !hal.executable) function(@m::@static::@_encoding_0) : i64
    hal.command_buffer.dispatch<%cmd : !hal.command_buffer> target(%executable : !hal.executable)[%function_id] workgroups([%c4, %c1, %c1]) bindings([
      (%2 : !hal.buffer)[%c0, %c192],
      (%transient_buffer : !hal.buffer)[%c0, %c1280]
    ]) flags("None")
    hal.device.queue.execute<%__device_0 : !hal.device> affinity(%c-1_i64) wait(%fence_1) signal(%fence_3) commands(%cmd) flags("None")
    util.global.store %transient_buffer, @__hoisted : !hal.buffer
    util.return
  }
  util.func private @__main$async_memoize_apply() -> !hal.command_buffer attributes {inlining_policy = #util.inline.never} {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c2 = arith.constant 2 : index
    %c24 = arith.constant 24 : index
    %c48 = arith.constant 48 : index
    %c64 = arith.constant 64 : index
    %c1280 = arith.constant 1280 : index
    %c7_i32 = arith.constant 7 : i32
    %__hoisted = util.global.load immutable @__hoisted : !hal.buffer
    %cmd = hal.command_buffer.create device(%__device_0 : !hal.device) mode("None") categories("Transfer|Dispatch") affinity(%c-1_i64) bindings(%c3) : !hal.command_buffer
    %function_id = hal.executable.lookup.function target(%executable : !hal.executable) function(@m::@static::@main$async_dispatch_0_matmul) : i64
    hal.command_buffer.dispatch<%cmd : !hal.command_buffer> target(%executable : !hal.executable)[%function_id] workgroups([%c2, %c1, %c1]) constants([%c7_i32]) bindings([
      (%c0 : index)[%c0, %c48],
      (%__hoisted : !hal.buffer)[%c0, %c1280],
      (%c2 : index)[%c64, %c48]
    ]) flags("None")
    %function_id_0 = hal.executable.lookup.function target(%executable : !hal.executable) function(@m::@static::@main$async_dispatch_1_matmul) : i64
    hal.command_buffer.dispatch<%cmd : !hal.command_buffer> target(%executable : !hal.executable)[%function_id_0] workgroups([%c1, %c1, %c1]) bindings([
      (%c2 : index)[%c64, %c48],
      (%c1 : index)[%c0, %c24]
    ]) flags("None")
    util.return %cmd : !hal.command_buffer
  }
  util.global private @__main$async_memoize_result_0_device_0 : !hal.command_buffer
  util.initializer {
    %0 = util.call @__main$async_memoize_apply() : () -> !hal.command_buffer
    util.global.store %0, @__main$async_memoize_result_0_device_0 : !hal.command_buffer
    util.return
  }
  util.func public @main$async(%arg0: !hal.buffer_view, %arg1: !hal.fence, %arg2: !hal.fence) -> !hal.buffer_view attributes {iree.abi.stub} {
    %c0 = arith.constant 0 : index
    %c24 = arith.constant 24 : index
    %c48 = arith.constant 48 : index
    %c128 = arith.constant 128 : index
    %__main$async_memoize_result_0_device_0 = util.global.load immutable @__main$async_memoize_result_0_device_0 : !hal.command_buffer
    %buffer = hal.buffer_view.buffer<%arg0 : !hal.buffer_view> : !hal.buffer
    %transient_buffer = hal.device.queue.alloca<%__device_0 : !hal.device> affinity(%c-1_i64) flags("None") : !hal.buffer{%c24}
    %transient_buffer_1 = hal.device.queue.alloca<%__device_0 : !hal.device> affinity(%c-1_i64) flags("None") : !hal.buffer{%c128}
    hal.device.queue.execute.indirect<%__device_0 : !hal.device> affinity(%c-1_i64) wait(%fence_2) signal(%fence_3) commands(%__main$async_memoize_result_0_device_0) bindings([
      (%buffer : !hal.buffer)[%c0, %c48],
      (%transient_buffer : !hal.buffer)[%c0, %c24],
      (%transient_buffer_1 : !hal.buffer)[%c0, %c128]
    ]) flags("None")
    %view = hal.buffer_view.create buffer(%transient_buffer : !hal.buffer)[%c0, %c24] shape([%c1, %c6]) type(%element_type_f32) encoding(%dense_row_major) : !hal.buffer_view
    util.return %view : !hal.buffer_view
  }
}

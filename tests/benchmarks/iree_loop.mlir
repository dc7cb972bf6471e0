  util.func public @main$async(%arg0: !hal.buffer_view, %arg1: !hal.buffer_view, %arg2: !hal.fence) -> (!hal.buffer_view, !hal.buffer_view) {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c2 = arith.constant 2 : index
    %c16 = arith.constant 16 : index
    %c32 = arith.constant 32 : index
    %a = hal.buffer_view.buffer<%arg0 : !hal.buffer_view> : !hal.buffer
    %b = hal.buffer_view.buffer<%arg1 : !hal.buffer_view> : !hal.buffer
    %t = hal.device.queue.alloca<%d : !hal.device> flags("None") : !hal.buffer{%c32}
    cf.br ^bb1(%c0, %t : index, !hal.buffer)
  ^bb1(%i: index, %held: !hal.buffer):  // 2 preds: ^bb0, ^bb2
    %more = arith.cmpi slt, %i, %c2 : index
    cf.cond_br %more, ^bb2, ^bb3(%held : !hal.buffer)
  ^bb2:  // pred: ^bb1
    %at = arith.muli %i, %c16 : index
    %next = arith.addi %i, %c1 : index
    %cmd = hal.command_buffer.create device(%d : !hal.device) mode(OneShot) : !hal.command_buffer
    hal.command_buffer.copy_buffer<%cmd : !hal.command_buffer> source(%a : !hal.buffer)[%at] target(%held : !hal.buffer)[%c0] length(%c16) flags("None")
    hal.device.queue.execute<%d : !hal.device> commands(%cmd) flags("None")
    cf.br ^bb1(%next, %held : index, !hal.buffer)
  ^bb3(%last: !hal.buffer):  // pred: ^bb1
    %v = hal.buffer_view.create buffer(%last : !hal.buffer)[%c0, %c16] shape([%c2]) : !hal.buffer_view
    %w = hal.buffer_view.create buffer(%b : !hal.buffer)[%c16, %c16] shape([%c2]) : !hal.buffer_view
    util.return %v, %w : !hal.buffer_view, !hal.buffer_view
  }

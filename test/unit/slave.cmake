# bpslave: its parts that do no I/O, and its workers.
function(slave_test part)
	add_executable(test_slave_${part} unit/slave_${part}.c)
	foreach(source ${ARGN})
		target_sources(test_slave_${part} PRIVATE ${PROJECT_SOURCE_DIR}/slaved/${source})
	endforeach()
	target_link_libraries(test_slave_${part} PRIVATE bpslave_parts PkgConfig::CHECK)
	add_test(NAME unit.slave_${part} COMMAND test_slave_${part})
	set_tests_properties(unit.slave_${part} PROPERTIES LABELS unit TIMEOUT 120)
endfunction()

slave_test(after bpslave_after.c)
slave_test(ask bpslave_ask.c bpslave_event.c)
slave_test(init bpslave_init.c bpslave_heard.c bpslave_loop.c)
slave_test(stream)
slave_test(proc)
slave_test(hdr)
slave_test(asks bpslave_asks.c bpslave_again.c)
slave_test(filter)
slave_test(pager pager_frame.c)
slave_test(keys bpdata_keys.c)
# Forwarded streams at home, between nodes that the test is.
foreach(part turn visit)
	slave_test(${part} bpslave_stdio.c bpslave_stdio_fd.c bpslave_stdio_home.c
		bpslave_stdio_lost.c bpslave_stdio_node.c bpslave_stdio_msg.c
		bpslave_stdio_turn.c)
	target_sources(test_slave_${part} PRIVATE unit/slave_streams.c)
endforeach()
# What is born on a node, in a /proc that the test is.
slave_test(born bpslave_born.c bpslave_all.c bpslave_away.c bpslave_tell.c bpslave_look.c bpslave_place.c
	bpslave_target.c)
slave_test(order bpslave_born.c bpslave_all.c bpslave_away.c bpslave_tell.c bpslave_look.c
	bpslave_place.c)
foreach(part born order)
	target_sources(test_slave_${part} PRIVATE unit/slave_around.c
		${PROJECT_SOURCE_DIR}/slaved/bpslave_chain.c)
endforeach()
slave_test(data)
target_compile_definitions(test_slave_data PRIVATE BPDATA="$<TARGET_FILE:bpdata>")
add_dependencies(test_slave_data bpdata)

add_test(NAME unit.filter_calls
	COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/unit/filter_calls.sh ${PROJECT_SOURCE_DIR})
set_tests_properties(unit.filter_calls PROPERTIES LABELS unit TIMEOUT 60)

# bpslave: its parts that do no I/O, and its workers.
add_executable(test_slave_after unit/slave_after.c ${PROJECT_SOURCE_DIR}/slaved/bpslave_after.c)
target_link_libraries(test_slave_after PRIVATE bpslave_parts PkgConfig::CHECK)
add_test(NAME unit.slave_after COMMAND test_slave_after)
set_tests_properties(unit.slave_after PROPERTIES LABELS unit TIMEOUT 60)

add_executable(test_slave_ask unit/slave_ask.c ${PROJECT_SOURCE_DIR}/slaved/bpslave_ask.c
	${PROJECT_SOURCE_DIR}/slaved/bpslave_event.c)
target_link_libraries(test_slave_ask PRIVATE bpslave_parts PkgConfig::CHECK)
add_test(NAME unit.slave_ask COMMAND test_slave_ask)
set_tests_properties(unit.slave_ask PROPERTIES LABELS unit TIMEOUT 60)

add_executable(test_slave_init unit/slave_init.c ${PROJECT_SOURCE_DIR}/slaved/bpslave_init.c)
target_link_libraries(test_slave_init PRIVATE bpslave_parts PkgConfig::CHECK)
add_test(NAME unit.slave_init COMMAND test_slave_init)
set_tests_properties(unit.slave_init PROPERTIES LABELS unit TIMEOUT 60)

foreach(part stream proc hdr filter)
	add_executable(test_slave_${part} unit/slave_${part}.c)
	target_link_libraries(test_slave_${part} PRIVATE bpslave_parts PkgConfig::CHECK)
	add_test(NAME unit.slave_${part} COMMAND test_slave_${part})
	set_tests_properties(unit.slave_${part} PROPERTIES LABELS unit TIMEOUT 120)
endforeach()

add_executable(test_slave_pager unit/slave_pager.c ${PROJECT_SOURCE_DIR}/slaved/pager_frame.c)
target_link_libraries(test_slave_pager PRIVATE bpslave_parts PkgConfig::CHECK)
add_test(NAME unit.slave_pager COMMAND test_slave_pager)
set_tests_properties(unit.slave_pager PROPERTIES LABELS unit TIMEOUT 60)

# Forwarded streams at home, between nodes that the test is.
add_executable(test_slave_turn unit/slave_turn.c
	${PROJECT_SOURCE_DIR}/slaved/bpslave_stdio.c ${PROJECT_SOURCE_DIR}/slaved/bpslave_stdio_fd.c
	${PROJECT_SOURCE_DIR}/slaved/bpslave_stdio_home.c ${PROJECT_SOURCE_DIR}/slaved/bpslave_stdio_node.c
	${PROJECT_SOURCE_DIR}/slaved/bpslave_stdio_turn.c)
target_link_libraries(test_slave_turn PRIVATE bpslave_parts PkgConfig::CHECK)
add_test(NAME unit.slave_turn COMMAND test_slave_turn)
set_tests_properties(unit.slave_turn PROPERTIES LABELS unit TIMEOUT 120)

# What is born on a node, in a /proc that the test is.
add_executable(test_slave_born unit/slave_born.c
	${PROJECT_SOURCE_DIR}/slaved/bpslave_born.c ${PROJECT_SOURCE_DIR}/slaved/bpslave_away.c
	${PROJECT_SOURCE_DIR}/slaved/bpslave_tell.c ${PROJECT_SOURCE_DIR}/slaved/bpslave_look.c
	${PROJECT_SOURCE_DIR}/slaved/bpslave_place.c)
target_link_libraries(test_slave_born PRIVATE bpslave_parts PkgConfig::CHECK)
add_test(NAME unit.slave_born COMMAND test_slave_born)
set_tests_properties(unit.slave_born PROPERTIES LABELS unit TIMEOUT 60)

add_executable(test_slave_data unit/slave_data.c)
target_link_libraries(test_slave_data PRIVATE bpslave_parts PkgConfig::CHECK)
target_compile_definitions(test_slave_data PRIVATE BPDATA="$<TARGET_FILE:bpdata>")
add_dependencies(test_slave_data bpdata)
add_test(NAME unit.slave_data COMMAND test_slave_data)
set_tests_properties(unit.slave_data PROPERTIES LABELS unit TIMEOUT 120)

add_test(NAME unit.filter_calls
	COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/unit/filter_calls.sh ${PROJECT_SOURCE_DIR})
set_tests_properties(unit.filter_calls PROPERTIES LABELS unit TIMEOUT 60)

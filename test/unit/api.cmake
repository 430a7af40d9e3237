# The public library and its commands, against a synthetic bpslave.
foreach(part node nodeset)
	add_executable(test_api_${part} unit/api_${part}.c unit/api_fake.c)
	target_link_libraries(test_api_${part} PRIVATE bproc_checked bproc_core PkgConfig::CHECK)
endforeach()
# Never instrumented: it makes an image of itself before it is told that it may not go.
add_executable(test_api_move unit/api_move.c unit/api_fake.c
	${PROJECT_SOURCE_DIR}/libbproc/err.c ${PROJECT_SOURCE_DIR}/libbproc/sysio.c)
target_link_libraries(test_api_move PRIVATE bproc_flags bproc_static)
foreach(part node nodeset move)
	add_test(NAME unit.api_${part} COMMAND test_api_${part})
	set_tests_properties(unit.api_${part} PROPERTIES LABELS unit TIMEOUT 120)
endforeach()

add_executable(test_api_server unit/api_server.c unit/api_fake.c)
target_link_libraries(test_api_server PRIVATE bproc_checked bproc_core)
add_test(NAME unit.api_commands
	COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/unit/api_commands.sh
		$<TARGET_FILE_DIR:bpsh> $<TARGET_FILE:test_api_server>)
set_tests_properties(unit.api_commands PROPERTIES LABELS unit TIMEOUT 120)

add_test(NAME unit.api_build
	COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/unit/api_build.sh
		${PROJECT_BINARY_DIR} ${PROJECT_SOURCE_DIR})
add_test(NAME lint.api_names
	COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/unit/api_names.sh
		$<TARGET_FILE:bproc> $<TARGET_FILE:vmadump> ${PROJECT_SOURCE_DIR})
set_tests_properties(unit.api_build PROPERTIES LABELS unit TIMEOUT 120)
set_tests_properties(lint.api_names PROPERTIES LABELS lint TIMEOUT 60)

# Plain: its image would hold the sanitizers' shadow.
foreach(lib bproc bproc_static)
	add_executable(test_api_dump_${lib} unit/api_dump.c)
	target_link_libraries(test_api_dump_${lib} PRIVATE bproc_flags bproc::${lib})
	add_test(NAME unit.api_dump_${lib}
		COMMAND test_api_server $<TARGET_FILE:test_api_dump_${lib}>)
	set_tests_properties(unit.api_dump_${lib} PROPERTIES LABELS unit TIMEOUT 60)
endforeach()

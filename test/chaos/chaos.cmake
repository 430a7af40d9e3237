# The chaos test: one program, moved itself, so plain and static whatever the daemons are.
add_executable(chaos ${CMAKE_CURRENT_LIST_DIR}/chaos.c ${CMAKE_CURRENT_LIST_DIR}/book.c
	${CMAKE_CURRENT_LIST_DIR}/calls.c ${CMAKE_CURRENT_LIST_DIR}/fault.c
	${CMAKE_CURRENT_LIST_DIR}/ledger.c ${CMAKE_CURRENT_LIST_DIR}/load.c
	${CMAKE_CURRENT_LIST_DIR}/look.c ${CMAKE_CURRENT_LIST_DIR}/pipe.c ${CMAKE_CURRENT_LIST_DIR}/place.c
	${CMAKE_CURRENT_LIST_DIR}/report.c ${CMAKE_CURRENT_LIST_DIR}/selftest.c)
set_target_properties(chaos PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${lab_programs})
target_link_libraries(chaos PRIVATE bproc_flags bproc_static -static)
target_compile_options(chaos PRIVATE -O1 -g)

# chaos_test(NAME NODES SECONDS [option of chaos...])
function(chaos_test name nodes limit)
	add_test(NAME ${name} COMMAND ${CMAKE_COMMAND} -E env CHAOS_KEEP=no CHAOS_NODES=${nodes}
		${CMAKE_CURRENT_FUNCTION_LIST_DIR}/run.sh ${PROJECT_BINARY_DIR} ${PROJECT_BINARY_DIR} ${ARGN})
	set_tests_properties(${name} PROPERTIES LABELS "move" TIMEOUT ${limit}
		SKIP_RETURN_CODE 77 PROCESSORS 2 RESOURCE_LOCK lab)
endfunction()
chaos_test(move.chaos_controls 2 120 --selftest)
# The ledger's name for a difference is what fails it, not how fast the machine is.
chaos_test(move.chaos 4 240 --seed 12 --seconds 15 --workers 6)

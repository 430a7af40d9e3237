# vmadump by itself. The victims are what is dumped: plain, whatever the preset.
foreach(kind dynamic static)
	add_executable(test_vmadump_${kind} unit/vmadump_victim.c unit/vmadump_memory.c
		unit/vmadump_signals.c unit/vmadump_process.c)
	target_link_libraries(test_vmadump_${kind} PRIVATE bproc_flags vmadump)
	target_compile_options(test_vmadump_${kind} PRIVATE -g)
endforeach()
target_link_options(test_vmadump_static PRIVATE -static)

add_executable(test_vmadump unit/vmadump_test.c)
target_link_libraries(test_vmadump PRIVATE bproc_flags bproc_sanitize PkgConfig::CHECK)
target_compile_definitions(test_vmadump PRIVATE
	VICTIM="$<TARGET_FILE:test_vmadump_dynamic>"
	VICTIM_STATIC="$<TARGET_FILE:test_vmadump_static>")
add_dependencies(test_vmadump test_vmadump_dynamic test_vmadump_static)
add_test(NAME unit.vmadump COMMAND test_vmadump)
set_tests_properties(unit.vmadump PROPERTIES LABELS unit TIMEOUT 300)

# Other processes: programs that do not know of it.
add_executable(test_vmadump_asm unit/vmadump_asm.S)
target_link_options(test_vmadump_asm PRIVATE -nostdlib -static)
add_executable(test_vmadump_files unit/vmadump_files.c)
target_link_libraries(test_vmadump_files PRIVATE bproc_flags)
add_executable(test_vmadump_tree unit/vmadump_tree.c)
target_link_libraries(test_vmadump_tree PRIVATE bproc_flags)
foreach(kind "" _static)
	add_executable(test_vmadump_state${kind} unit/vmadump_state.c)
	target_link_libraries(test_vmadump_state${kind} PRIVATE bproc_flags)
endforeach()
target_link_options(test_vmadump_state_static PRIVATE -static)
find_package(Threads REQUIRED)
add_executable(test_vmadump_odd unit/vmadump_odd.c)
target_link_libraries(test_vmadump_odd PRIVATE bproc_flags Threads::Threads rt)
add_executable(test_vmadump_more unit/vmadump_more.c)
target_link_libraries(test_vmadump_more PRIVATE bproc_flags Threads::Threads rt)
foreach(kind "" _static)
	add_executable(test_vmadump_threads${kind} unit/vmadump_threads.c)
	target_link_libraries(test_vmadump_threads${kind} PRIVATE bproc_flags Threads::Threads)
endforeach()
target_link_options(test_vmadump_threads_static PRIVATE -static)
foreach(name programs trees work state refusals safety pack)
	add_test(NAME unit.vmadump_${name}
		COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/unit/vmadump_${name}.sh
			$<TARGET_FILE:vmadump_command> $<TARGET_FILE_DIR:test_vmadump_asm>)
	set_tests_properties(unit.vmadump_${name} PROPERTIES LABELS unit TIMEOUT 600)
endforeach()

# What the daemons share, and bpmaster against synthetic slaves.
foreach(part wire link config)
	add_executable(test_core_${part} unit/core_${part}.c)
	target_link_libraries(test_core_${part} PRIVATE bproc_net PkgConfig::CHECK)
	add_test(NAME unit.core_${part} COMMAND test_core_${part})
	set_tests_properties(unit.core_${part} PROPERTIES LABELS unit TIMEOUT 120)
endforeach()

add_executable(test_master_tables unit/master_tables.c)
target_link_libraries(test_master_tables PRIVATE master_core PkgConfig::CHECK)
add_test(NAME unit.master_tables COMMAND test_master_tables)
set_tests_properties(unit.master_tables PROPERTIES LABELS unit TIMEOUT 120)

foreach(part daemon moves resync gone faults)
	add_executable(test_master_${part} unit/master_${part}.c unit/core_slave.c)
	target_link_libraries(test_master_${part} PRIVATE bproc_net PkgConfig::CHECK)
	target_compile_definitions(test_master_${part} PRIVATE
		BPMASTER="$<TARGET_FILE:bpmaster>")
	add_dependencies(test_master_${part} bpmaster)
	add_test(NAME unit.master_${part} COMMAND test_master_${part})
	set_tests_properties(unit.master_${part} PROPERTIES LABELS unit TIMEOUT 180)
endforeach()

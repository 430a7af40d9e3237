# bpslave: its parts that do no I/O, and its workers.
foreach(part stream proc hdr)
	add_executable(test_slave_${part} unit/slave_${part}.c)
	target_link_libraries(test_slave_${part} PRIVATE bpslave_parts PkgConfig::CHECK)
	add_test(NAME unit.slave_${part} COMMAND test_slave_${part})
	set_tests_properties(unit.slave_${part} PROPERTIES LABELS unit TIMEOUT 120)
endforeach()

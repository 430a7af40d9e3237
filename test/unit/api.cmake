# The public library and its commands, against a synthetic bpslave.
foreach(part node nodeset move)
	add_executable(test_api_${part} unit/api_${part}.c unit/api_fake.c)
	target_link_libraries(test_api_${part} PRIVATE bproc_checked bproc_core PkgConfig::CHECK)
	add_test(NAME unit.api_${part} COMMAND test_api_${part})
	set_tests_properties(unit.api_${part} PROPERTIES LABELS unit TIMEOUT 120)
endforeach()

# The model of the move protocol (doc/models), checked whole: about a minute and a half.
add_test(NAME model.move COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/model.sh ${PROJECT_SOURCE_DIR})
set_tests_properties(model.move PROPERTIES LABELS "model;slow" TIMEOUT 600 PROCESSORS 2)
